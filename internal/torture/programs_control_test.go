package torture

import "testing"

// programFlock is the engine's simulation with what it does about the programs of webhooks broken.
var programFlock = &flock{names: make(map[edit]string)}

func init() {
	const build, advance, deliver, bolt = "engine/build.go", "engine/advance.go", "engine/deliver.go", "storage/bolt/"
	for _, m := range []struct {
		name  string
		edits []edit
	}{
		// Filters are ignored.
		{"no-filter", []edit{{file: build, old: "\tb := Built{Body: payload, ContentType: w.ContentType}\n",
			new: "\tif mutant(\"no-filter\") {\n\t\tprograms.Filter = \"\"\n\t}\n\tb := Built{Body: payload, ContentType: w.ContentType}\n"}}},
		// The programs are run for each attempt.
		{"each-attempt", []edit{{file: deliver, old: "\tpayload := c.claimed.Payload\n", new: "\tpayload := c.claimed.Payload\n" +
			"\tif w := e.webhookFor(c); mutant(\"each-attempt\") && d.Status == StatusPending && d.Kind != KindTest && w != nil && w.hasPrograms() {\n" +
			"\t\tif b, err := e.build(sendCtx, w, payload); err == nil && !b.Filtered {\n\t\t\tpayload, d.URLValues = b.Body, b.URLValues\n\t\t}\n\t}\n"}}},
		// A filtered session cancels older deliveries.
		{"filtered-supersedes", []edit{
			{file: "engine/supersede.go", old: "\tcase f.Ends() || ", new: "\tcase f.Ends() && !mutant(\"filtered-supersedes\") || "},
			{file: bolt + "supersede.go", old: "\tif f.Ends() {\n", new: "\tif f.Ends() && !mutant(\"filtered-supersedes\") {\n"}}},
		// A late event does not let a filtered session through.
		{"no-again", []edit{{file: "engine/late.go", old: "\tcase filtered:\n", new: "\tcase filtered && !mutant(\"no-again\"):\n"}}},
		// A late event sends a session again that was sent once.
		{"again-anyway", []edit{{file: "engine/late.go", old: "complete.Status == StatusFiltered\n",
			new: "(complete.Status == StatusFiltered || mutant(\"again-anyway\") && complete.Status == StatusDelivered)\n"}}},
		// A delivery that could not be built has used a try.
		{"parked-tries", []edit{{file: advance, old: "\t\tafter.BuildError, after.LastError = f.BuildError, ErrorTransform\n",
			new: "\t\tafter.BuildError, after.LastError = f.BuildError, ErrorTransform\n\t\tafter.Tries += mutated(\"parked-tries\", 1, 0)\n"}}},
		// The webhook is paused after six failures.
		{"six", []edit{{file: build, old: "row.n >= maxUnbuiltInRow {", new: "row.n >= maxUnbuiltInRow+mutated(\"six\", 1, 0) {"}}},
		// A filtered session does not end the row of failures.
		{"filtered-fails", []edit{{file: build, old: "\tif f.BuildError == \"\" {\n", new: "\tif f.BuildError == \"\" && !(f.Filtered && mutant(\"filtered-fails\")) {\n"}}},
		// Nor does a mended program.
		{"one-row", []edit{{file: build, old: "row.webhook == nil || !row.webhook.sameBuild(w)", new: "!mutant(\"one-row\") && (row.webhook == nil || !row.webhook.sameBuild(w))"}}},
		// A dropped trigger does.
		{"dropped-works", []edit{{file: deliver, old: "&& (f.Payload != nil || f.Ends())", new: "&& (f.Payload != nil || f.Ends() || mutant(\"dropped-works\"))"}}},
		// A replay takes failed deliveries of all classes.
		{"replays-all", []edit{{file: "engine/replay.go", old: "(r.Error == \"\" || r.Error == d.LastError)", new: "(r.Error == \"\" || r.Error == d.LastError || mutant(\"replays-all\"))"}}},
		// The values for the URL are not stored.
		{"values-forgotten", []edit{{file: advance, old: "\t\tafter.Shaped, after.ContentType, after.URLValues = f.Shaped, f.ContentType, f.URLValues\n",
			new: "\t\tafter.Shaped, after.ContentType, after.URLValues = f.Shaped, f.ContentType, mutated(\"values-forgotten\", \"\", f.URLValues)\n"}}},
		// The content type is that of the webhook now.
		{"type-now", []edit{{file: "engine/sending.go", old: "ContentType: d.FrozenType()", new: "ContentType: mutated(\"type-now\", w.contentType(), d.FrozenType())"}}},
		// After events that came meanwhile, the programs of before are run.
		{"old-programs", []edit{{file: deliver, old: "\tfor events := 0; ; {\n\t\tw := e.webhookFor(c)\n",
			new: "\tvar before *Webhook\n\tfor events := 0; ; {\n\t\tw := e.webhookFor(c)\n\t\tif w != nil && before != nil && mutant(\"old-programs\") {\n\t\t\tw = before\n\t\t}\n\t\tbefore = w\n"}}},
		// Where no process can be started, a try is used.
		{"no-worker-tries", []edit{{file: deliver, old: "\tcase errors.Is(err, transform.ErrNoWorker):\n", new: "\tcase errors.Is(err, transform.ErrNoWorker) && !mutant(\"no-worker-tries\"):\n"}}},
		// What waits for a mended program is not counted.
		{"parked-uncounted", []edit{{file: bolt + "deliveries.go", old: "\tif r.Parked() {\n", new: "\tif r.Parked() && !mutant(\"parked-uncounted\") {\n"}}},
		// What is due on arrival is sent as it is.
		{"posted-raw", []edit{{file: "engine/ingest.go", old: "\t\t\tif w.NeedsBuild() {\n", new: "\t\t\tif w.NeedsBuild() && !mutant(\"posted-raw\") {\n"}}},
		// From how many events a session was filtered is not stored.
		{"filtered-from-none", []edit{{file: advance, old: "\t\tafter.BuiltFrom = f.Events\n", new: "\t\tafter.BuiltFrom = mutated(\"filtered-from-none\", 0, f.Events)\n"}}},
		// A person is not looked for in bodies that programs have made.
		{"person-missed", []edit{{file: "engine/person.go", old: "\tif d.Shaped {\n", new: "\tif d.Shaped && mutant(\"person-missed\") {\n\t\treturn false, nil\n\t}\n\tif d.Shaped {\n"}}},
	} {
		programFlock.shared(m.name, m.edits...)
	}
}

// The engine's simulation notices each way in which programs could do what they must not.
func TestProgramControl(t *testing.T) {
	experiment(t)
	if !*longForm {
		t.Skip("in the long form only: each of its mutants takes seconds of the simulation, and the checks have to end")
	}
	wantCaught(t, programFlock, "./engine", "^TestSimulation$", "-sim.days=1", "-sim.seeds=150")
}
