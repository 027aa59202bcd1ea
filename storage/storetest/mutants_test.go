package storetest_test

import "slices"

// mutant is a way to break a promise.
type mutant struct {
	rule   string // that catches it
	name   string
	breaks func(b *broken)
}

// mutants are all of them, at least one for each rule.
func mutants() []mutant {
	return slices.Concat(appendMutants, fanOutMutants, claimMutants, attemptMutants, supersedeMutants, programMutants, healthMutants, handMutants, readMutants, webhookMutants, jobMutants,
		onceMutants, eraseMutants, personMutants, statsMutants, errorMutants, sharedMutants)
}
