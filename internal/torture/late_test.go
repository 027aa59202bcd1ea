package torture

import "testing"

// lateFlock is the engine's own tests with what it does about late events broken.
var lateFlock = &flock{names: make(map[edit]string)}

func init() {
	const admit, fanOut, supersede, late, bolt = "engine/admit.go", "engine/fanout.go", "engine/supersede.go", "engine/late.go", "storage/bolt/"
	for _, m := range []struct {
		name  string
		edits []edit
	}{
		// A trigger fires at once where its delay is over.
		{"no-settle", []edit{{file: fanOut, old: "\treturn later(at, f.ReceivedAt.Add(", new: "\treturn later(at, mutated(\"no-settle\", time.Time{}, f.ReceivedAt).Add("}}},
		// It waits for longer than the webhook asks for.
		{"long-settle", []edit{{file: fanOut, old: "min(seconds(delay), f.Settle)", new: "min(mutated(\"long-settle\", f.Settle, seconds(delay)), f.Settle)"}}},
		// Sessions that are posted whole settle.
		{"whole-settles", []edit{{file: admit, old: "\tif !f.StartedAt.IsZero() && !f.FinishedAt.IsZero() && ",
			new: "\tif !mutant(\"whole-settles\") && !f.StartedAt.IsZero() && !f.FinishedAt.IsZero() && "}}},
		// A finish by itself is a whole session.
		{"finish-is-whole", []edit{{file: admit, old: "return !ev.finishes() })", new: "return !ev.finishes() || mutant(\"finish-is-whole\") })"}}},
		// The start does not move the trigger.
		{"start-stays", []edit{{file: admit, old: "\tcase before.StartedAt.IsZero() && !after.StartedAt.IsZero():\n",
			new: "\tcase before.StartedAt.IsZero() && !after.StartedAt.IsZero() && (!f.Continued || !mutant(\"start-stays\")):\n"}}},
		// An earlier start moves it again.
		{"moves-twice", []edit{{file: admit, old: "\tcase !f.Continued: // until",
			new: "\tcase mutant(\"moves-twice\") && !after.StartedAt.Equal(before.StartedAt):\n\t\tf.StartedAt = after.StartedAt\n\tcase !f.Continued: // until"}}},
		// Without a start there is no incomplete delivery.
		{"no-stand-in", []edit{{file: admit, old: "\t\tf.StartedAt = earliest(fresh)\n", new: "\t\tf.StartedAt = mutated(\"no-stand-in\", time.Time{}, earliest(fresh))\n"}}},
		// A start makes an incomplete delivery of a session that had finished.
		{"start-makes", []edit{{file: bolt + "sessions.go", old: "\t\tcase t.MovesOnly:\n", new: "\t\tcase t.MovesOnly && !mutant(\"start-makes\"):\n"}}},
		// The complete delivery of a whole session goes before the incomplete one.
		{"complete-first", []edit{{file: admit, old: "\t\t\tif len(d.Triggers) == n+1 {",
			new: "\t\t\tif len(d.Triggers) == n+2 && mutant(\"complete-first\") {\n\t\t\t\ta.claimOnArrival(&d.Triggers[n+1], &head, w, p)\n\t\t\t}\n\t\t\tif len(d.Triggers) == n+1 {"}}},
		// An incomplete payload holds what happened until it was due.
		{"as-of-due", []edit{{file: "engine/render.go", old: "Fold(events, d.AsOf)", new: "Fold(events, mutated(\"as-of-due\", d.DueAt, d.AsOf))"}}},
		// Nothing is superseded.
		{"no-supersede", []edit{{file: supersede, old: "!newer.Overtakes(o):\n", new: "!newer.Overtakes(o) || mutant(\"no-supersede\"):\n"}}},
		// An older payload supersedes a newer one.
		{"cancels-newer", []edit{{file: supersede, old: "\tnewer.BuiltFrom, newer.FrozenAt = f.Events, f.At\n",
			new: "\tif newer.BuiltFrom, newer.FrozenAt = f.Events, f.At; mutant(\"cancels-newer\") {\n\t\tnewer.Kind, newer.BuiltFrom = KindUpdate, MaxSessionEvents\n\t}\n"}}},
		// An incomplete trigger with nothing to send outlives the complete payload, and a start revives it.
		{"revives", []edit{{file: supersede, old: "\t\treturn SupersedeDrops\n", new: "\t\treturn mutated(\"revives\", SupersedeNothing, SupersedeDrops)\n"}}},
		// Two deliveries of a session are on their way at once.
		{"two-at-once", []edit{{file: "engine/turnstile.go", old: "\tif !d.Kind.OfSession() {\n", new: "\tif !d.Kind.OfSession() || mutant(\"two-at-once\") {\n"}}},
		// A payload lacks what has come since its session was read.
		{"no-recheck", []edit{{file: bolt + "supersede.go", old: "\tif session.Events != f.Events {\n", new: "\tif session.Events != f.Events && !mutant(\"no-recheck\") {\n"}}},
		// Replays send what is overtaken.
		{"replays-older", []edit{{file: "engine/replay.go", old: "\tif from.Overtaken || d.SupersededBy != uuid.Nil {\n",
			new: "\tif !mutant(\"replays-older\") && (from.Overtaken || d.SupersededBy != uuid.Nil) {\n"}}},
		// Events that the complete payload will hold make an update.
		{"update-early", []edit{{file: late, old: "(complete.FrozenAt.IsZero() && !filtered || ", new: "(complete.FrozenAt.IsZero() && !filtered && !mutant(\"update-early\") || "}}},
		// Each request makes an update of its own.
		{"two-updates", []edit{{file: late, old: "\treturn update.Status == StatusScheduled || ", new: "\treturn update.Status == StatusScheduled && !mutant(\"two-updates\") || "}}},
		// Events that change nothing make an update.
		{"no-change", []edit{{file: late, old: "\tif stored != nil {\n", new: "\tif stored != nil && !mutant(\"no-change\") {\n"}}},
		// So do those that change what the webhook does not get.
		{"answers-anyway", []edit{{file: late, old: "l.Answers && w.SendAnswers || l.Leads && w.SendLeads", new: "(l.Answers || l.Leads) && mutant(\"answers-anyway\") || l.Answers && w.SendAnswers || l.Leads && w.SendLeads"}}},
		// Nothing is made of late events while an update waits that is about to be cancelled.
		{"trusts-cancelled", []edit{{file: bolt + "late.go", old: "!b.hooks.Covered(&d.Delivery) && t.HasLate", new: "(!b.hooks.Covered(&d.Delivery) || mutant(\"trusts-cancelled\")) && t.HasLate"}}},
		// Late events are not counted on the delivery.
		{"uncounted", []edit{{file: bolt + "late.go", old: "\t\td.LateEvents += t.Late\n", new: "\t\td.LateEvents += mutated(\"uncounted\", 0, t.Late)\n"}}},
		// Nor by the metric.
		{"unmetered", []edit{{file: "engine/ingest.go", old: "e.metrics.eventsLate.Add(float64(done.Late))", new: "e.metrics.eventsLate.Add(float64(mutated(\"unmetered\", 0, done.Late)))"}}},
		// They are counted still when an update has told them.
		{"told-twice", []edit{{file: supersede, old: "\t\to.LateEvents = 0\n\t\treturn SupersedeTells\n", new: "\t\tif o.LateEvents = 0; mutant(\"told-twice\") {\n\t\t\treturn SupersedeNothing\n\t\t}\n\t\treturn SupersedeTells\n"}}},
	} {
		lateFlock.shared(m.name, m.edits...)
	}
}

// The engine's tests notice each way in which it could lose what comes late, or send it wrongly.
func TestLateControl(t *testing.T) {
	experiment(t)
	wantCaught(t, lateFlock, "./engine", "OneAtATime|HoldsWhatCame|SupersededByHand|UpdateSupersedes|UpdatesFollow|UpdateAfter|StartMoves|Arrivals/settle|Arrivals/fan")
}
