package engine

// Drain is how far a process is with giving its lanes to others.
type Drain struct {
	// On reports that the process is to give its lanes away.
	On bool
	// Lanes is how many webhooks' lanes it owns, Free how many nobody owns: those that were given up are free until another process takes them.
	Lanes, Free int
	// Keeper reports that it does the background work; see News.Keeper.
	Keeper bool
	// Others is how many other processes may own lanes.
	Others int
}
