package copying

// SetBatchRecords sets how many records a batch has at most.
func SetBatchRecords(n int) (reset func()) {
	before := batchRecords
	batchRecords = n
	return func() { batchRecords = before }
}
