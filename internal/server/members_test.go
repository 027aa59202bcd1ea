package server_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
)

// fleetAnswer is the answer of GET /v1/members, without what each member measures by itself.
type fleetAnswer struct {
	Items []struct {
		ID       int
		Host     string
		Release  string
		State    string
		JoinedAt string `json:"joined_at"`
		Webhooks int
		InFlight int `json:"in_flight"`
		Keeper   bool
		This     bool
	}
	Unowned int `json:"unowned_webhooks"`
}

func membersAt(t *testing.T, api string) (f fleetAnswer, this int) {
	t.Helper()
	status, answer := hookbolttest.Call(t, "GET", api+"/v1/members", "")
	hookbolttest.WantStatus(t, 200, status, answer)
	if err := json.Unmarshal([]byte(answer), &f); err != nil {
		t.Fatal(err)
	}
	for i := range f.Items {
		if f.Items[i].This {
			this, f.Items[i].This = f.Items[i].ID, false
		}
	}
	return f, this
}

var (
	charts  = regexp.MustCompile(`(?s)<section[^>]* id="charts-card".*?</section>`)
	failing = regexp.MustCompile(`"state":"failing"`)
)

// alikeAfterFailures has endpoints fail. Both processes show them as failing, and the same charts of what either has counted.
func alikeAfterFailures(t *testing.T, one, other string, until func(string, func() bool)) {
	t.Helper()
	get := func(url, path string) string {
		t.Helper()
		status, answer := hookbolttest.Call(t, "GET", url+path, "")
		hookbolttest.WantStatus(t, 200, status, answer)
		return answer
	}
	for i := range 6 {
		id := fmt.Sprintf("6caaa000-2bd8-4b28-8b9b-bfe1fca94f3%d", i)
		status, answer := hookbolttest.Call(t, "POST", one+"/v1/events", `{"type":"start","session_id":"`+id+`","content_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","content_type":"quiz","poltio_user_id":1}
{"type":"finish","session_id":"`+id+`"}`)
		hookbolttest.WantStatus(t, 202, status, answer)
	}
	hooks := strings.Count(get(one, "/v1/webhooks"), `"state":`)
	for _, url := range []string{one, other} {
		until("all webhooks fail, as "+url+" tells", func() bool { return len(failing.FindAllString(get(url, "/v1/webhooks"), -1)) == hooks })
	}
	until("both show the same charts", func() bool {
		shown := charts.FindString(get(one, "/"))
		return strings.Contains(shown, "failed attempt") && shown == charts.FindString(get(other, "/"))
	})
}

// TestMembersAlike asks two processes on one database for the members, the owners of webhooks, the pages and the metrics: they tell the same. One that is killed
// is told of no more, and its webhooks are the other's.
func TestMembersAlike(t *testing.T) {
	config, _ := writePostgresConfig(t)
	one := hookbolttest.Spawn(t, config)
	other := hookbolttest.Start(t, "serve", "-config", config)
	api := other.URL(t)
	get := func(url, path string) string {
		t.Helper()
		status, answer := hookbolttest.Call(t, "GET", url+path, "")
		hookbolttest.WantStatus(t, 200, status, answer)
		return answer
	}
	makeHooks := func(n int) {
		t.Helper()
		for range n {
			status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", `{"url":"http://127.0.0.1:1/","delay":0}`)
			hookbolttest.WantStatus(t, 201, status, answer)
		}
	}
	hooks := 8
	makeHooks(hooks)
	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * hookbolttest.Timeout); !is(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				f, _ := membersAt(t, api)
				t.Fatalf("never: %s; %+v", what, f)
			}
		}
	}
	var f fleetAnswer
	var a, b int
	ownAll := func() bool {
		f, b = membersAt(t, api)
		return len(f.Items) == 2 && f.Items[0].State == "working" && f.Items[1].State == "working" && f.Items[0].Webhooks+f.Items[1].Webhooks == hooks
	}
	until("both work, and own all webhooks", ownAll)
	for f.Items[0].Webhooks == 0 || f.Items[1].Webhooks == 0 { // who owns one is drawn with the ids of both: all of eight are one member's in one of 128 cases
		hooks++
		makeHooks(1)
		until("both own all webhooks", ownAll)
	}
	same, a := membersAt(t, one.URL)
	if a == b || a != f.Items[0].ID || b != f.Items[1].ID || !slices.Equal(same.Items, f.Items) || same.Unowned != 0 || f.Items[0].Host == "" || f.Items[0].Release != "dev" || f.Items[0].Keeper == f.Items[1].Keeper {
		t.Errorf("members %d and %d tell\n%+v\n%+v", a, b, same, f)
	}
	owner := regexp.MustCompile(`"member":(\d+|null)`)
	ownedBy := make(map[string]int)
	for id := range hooks {
		path := fmt.Sprintf("/webhooks/%d", id+1)
		mine, others := owner.FindString(get(one.URL, "/v1"+path)), owner.FindString(get(api, "/v1"+path))
		if ownedBy[mine]++; mine != others {
			t.Errorf("%s is told to have %q and %q", path, mine, others)
		}
		if id == 0 && !strings.Contains(get(api, path), "<dt>Delivered by</dt><dd>member "+strings.TrimPrefix(mine, `"member":`)+" on ") {
			t.Errorf("the page of webhook 1 does not name its owner, %s", mine)
		}
	}
	for _, m := range f.Items {
		if got := ownedBy[fmt.Sprintf(`"member":%d`, m.ID)]; got != m.Webhooks {
			t.Errorf("member %d owns %d webhooks, and %d say so", m.ID, m.Webhooks, got)
		}
	}
	for url, id := range map[string]int{one.URL: a, api: b} {
		for _, m := range f.Items {
			if page := get(url, "/"); !strings.Contains(page, fmt.Sprintf(`<tr id="member-%d">`, m.ID)) || !strings.Contains(page, "shows this page") {
				t.Errorf("the overview of member %d does not show member %d", id, m.ID)
			}
		}
		metrics := get(url, "/metrics")
		for _, want := range []string{`hookbolt_postgres_members{state="working"} 2`, `hookbolt_postgres_members{state="away"} 0`, "hookbolt_postgres_unowned_lanes 0"} {
			if !strings.Contains(metrics, "\n"+want+"\n") {
				t.Errorf("the metrics of member %d lack %s", id, want)
			}
		}
		if want := fmt.Sprintf("\nhookbolt_postgres_owned_webhooks %d\n", f.Items[slices.Index([]int{a, b}, id)].Webhooks); !strings.Contains(metrics, want) {
			t.Errorf("the metrics of member %d lack %s", id, want)
		}
	}
	status := hookbolttest.Start(t, "status", "-url", api)
	if code, out := status.Exit(t), status.Stdout.String(); code != 0 || !strings.Contains(out, "\nmembers     working 2\n            member ") || !strings.Contains(out, "this one") {
		t.Errorf("status: exit code %d\n%s", code, out)
	}
	alikeAfterFailures(t, one.URL, api, until)
	if line := one.Log.Find(t, `(?m)^.*msg=ready.*$`); !strings.HasSuffix(line, fmt.Sprintf(" member=%d", a)) {
		t.Errorf("a line of member %d: %s", a, line)
	}
	if err := one.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = one.Wait() // else it is still there, as a zombie
	until("the one that was killed is told of no more", func() bool {
		f, _ := membersAt(t, api)
		return len(f.Items) == 1 && f.Items[0].ID == b && f.Items[0].Webhooks == hooks && f.Unowned == 0 && f.Items[0].Keeper
	})
	if metrics := get(api, "/metrics"); !strings.Contains(metrics, "\nhookbolt_postgres_members_taken_over_total 1\n") {
		t.Error("the metrics do not tell that it was taken over")
	}
}
