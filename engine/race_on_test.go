//go:build race

package engine_test

// raced tells that the race detector is at work, under which everything takes many times as long: tests whose size is their point
// are smaller then. It looks for races, not at figures.
const raced = true
