package postgres_test

import (
	"os"
	"testing"

	"hookbolt/internal/postgrestest"
	"hookbolt/storage/postgres"
	"hookbolt/storage/storetest"
)

// The store keeps all promises of engine.Store.
func TestConformance(t *testing.T) {
	cluster := postgrestest.Shared(t)
	backend := storetest.Backend{New: func(tb storetest.TB) storetest.Opener {
		schema := cluster.Schema(tb)
		return func() (storetest.Store, error) {
			return postgres.Open(tb.Context(), postgres.Options{URL: cluster.URL(), Schema: schema})
		}
	}}
	all := os.Getenv("HOOKBOLT_ALL_RULES") == "1"
	for _, r := range storetest.Rules {
		if r.Shared || missing[r.Name] && !all {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			r.Check(t, backend)
		})
	}
}

// missing are the rules that do not pass yet, because what they try is not built.
var missing = map[string]bool{
	"append/all sessions of a request or none":                true,
	"append/at most one of a kind":                            true,
	"append/events in time ask no filter again":               true,
	"append/events in time lead to none":                      true,
	"append/late events are counted":                          true,
	"append/late events ask a filter again":                   true,
	"append/late events lead to updates":                      true,
	"append/triggers become deliveries":                       true,
	"cancel/all ends replays":                                 true,
	"cancel/carried out":                                      true,
	"cancel/new deliveries are not covered":                   true,
	"cancel/outlives the process":                             true,
	"cancel/scopes":                                           true,
	"cancel/updates that are not built":                       true,
	"claim/ends with the process":                             true,
	"claim/once":                                              true,
	"claim/once among many":                                   true,
	"enqueue/not found":                                       true,
	"erase/a body of any shape":                               true,
	"erase/a dry run":                                         true,
	"erase/a person":                                          true,
	"erase/a person's deliveries of expired sessions":         true,
	"erase/a session":                                         true,
	"erase/a visitor":                                         true,
	"erase/all that is stored when it begins":                 true,
	"erase/claims go on":                                      true,
	"erase/deliveries of expired sessions":                    true,
	"erase/for a request with a key":                          true,
	"erase/nothing":                                           true,
	"erase/nothing of others":                                 true,
	"erase/outlives the process":                              true,
	"erase/the session may begin anew":                        true,
	"error/closed":                                            true,
	"error/ended context":                                     true,
	"error/ended context claims nothing":                      true,
	"error/ended context keeps the claim":                     true,
	"fan-out/all deliveries are made":                         true,
	"fan-out/at most one of a kind":                           true,
	"fan-out/erased sessions get none":                        true,
	"fan-out/goes on after a restart":                         true,
	"fan-out/keeps the session":                               true,
	"fan-out/later webhooks get none":                         true,
	"fan-out/tells the lanes":                                 true,
	"freeze/a mended one is built anew":                       true,
	"freeze/an end needs all events":                          true,
	"freeze/dropped without a trace":                          true,
	"freeze/drops the incomplete trigger":                     true,
	"freeze/filtered":                                         true,
	"freeze/from all events":                                  true,
	"freeze/keeps the claim":                                  true,
	"freeze/not sendable":                                     true,
	"freeze/parked":                                           true,
	"freeze/refused ends the claim":                           true,
	"freeze/supersedes what waits":                            true,
	"health/begins anew":                                      true,
	"health/is deleted with the webhook":                      true,
	"health/none for a healthy endpoint":                      true,
	"health/outlives the process":                             true,
	"health/the newest stands":                                true,
	"list/bounds are inclusive":                               true,
	"list/cursor goes on while deliveries are made":           true,
	"list/filters":                                            true,
	"list/limit":                                              true,
	"list/newest first":                                       true,
	"list/waiting ones by their next attempt":                 true,
	"list/what is no cursor is refused":                       true,
	"maintain/a new end counts":                               true,
	"maintain/deliveries expire":                              true,
	"maintain/many":                                           true,
	"maintain/next":                                           true,
	"maintain/sessions expire":                                true,
	"maintain/sessions stay while something waits":            true,
	"maintain/what has no body is kept with its session":      true,
	"notice/for nobody":                                       true,
	"once/a dry run":                                          true,
	"once/a failed change":                                    true,
	"once/a repeated change":                                  true,
	"once/for a day":                                          true,
	"once/kept with the effect":                               true,
	"once/one of many at once":                                true,
	"once/without Maintain":                                   true,
	"ready/claimed on arrival":                                true,
	"ready/in the order in which they were made":              true,
	"record/ends the claim":                                   true,
	"record/erased meanwhile":                                 true,
	"record/what was done meanwhile stands":                   true,
	"release/due as before":                                   true,
	"replay/bounds are inclusive":                             true,
	"replay/dry run":                                          true,
	"replay/ends with its webhook":                            true,
	"replay/filtered":                                         true,
	"replay/is left to Maintain":                              true,
	"replay/of one error":                                     true,
	"replay/outlives the process":                             true,
	"replay/refused":                                          true,
	"replay/scopes":                                           true,
	"replay/tells what it has queued":                         true,
	"replay/what is missing":                                  true,
	"replay/what is missing after its retention":              true,
	"replay/what is missing with updates":                     true,
	"replay/what is missing with updates after its retention": true,
	"reschedule/now, refused":                                 true,
	"session/without the deliveries that are gone":            true,
	"sessions/bounds are inclusive":                           true,
	"sessions/cursor goes on while sessions begin":            true,
	"sessions/filters":                                        true,
	"sessions/newest first":                                   true,
	"sessions/what is no cursor is refused":                   true,
	"stats/claimed":                                           true,
	"stats/count by state":                                    true,
	"stats/due":                                               true,
	"stats/end with the context":                              true,
	"stats/oldest due":                                        true,
	"stats/outlive the process":                               true,
	"stats/size and room":                                     true,
	"together/all is durable":                                 true,
	"together/all methods at once":                            true,
	"watch/one call at a time":                                true,
	"webhook/deleted":                                         true,
}
