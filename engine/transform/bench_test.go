package transform

import (
	"os"
	"testing"
)

const samplePayload = "../../testdata/sessions/seed-example.complete.json"

func benchJob(b *testing.B) Job {
	payload, err := os.ReadFile(samplePayload)
	if err != nil {
		b.Fatal(err)
	}
	slack, err := os.ReadFile("testdata/recipes/slack.jq")
	if err != nil {
		b.Fatal(err)
	}
	return Job{Programs: Programs{Filter: ".leads | length > 0", Transform: string(slack)}, Payload: payload}
}

func BenchmarkEval(b *testing.B) {
	e, job := newEvaluator(), benchJob(b)
	for b.Loop() {
		if _, err := e.eval(job); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	pool, job := NewPool(Options{}), benchJob(b)
	defer pool.Close()
	b.Run("callers=1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := pool.Run(b.Context(), job); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, owners := range []uint32{1, 16} {
		b.Run(map[uint32]string{1: "callers=16/owners=1", 16: "callers=16/owners=16"}[owners], func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				job, n := job, uint32(0)
				for pb.Next() {
					n++
					job.Owner = n % owners
					if _, err := pool.Run(b.Context(), job); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
