package engine

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSettings holds each row of the table against what it says of itself.
func TestSettings(t *testing.T) {
	stored := make(map[string]bool)
	for f := range reflect.TypeFor[Webhook]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		stored[name] = true
	}
	effects := []Effect{EffectNone, EffectAttempt, EffectPayload, EffectDue, EffectCancel, EffectHold}
	seen := make(map[string]bool)
	for i := range Settings {
		s := &Settings[i]
		if seen[s.Name] || !stored[s.Name] {
			t.Errorf("%s stands twice in the table, or is stored under another name", s.Name)
		}
		seen[s.Name] = true
		if SettingNamed(s.Name) != s {
			t.Errorf("%s is not found by its name", s.Name)
		}
		if !slices.Contains(effects, s.Effect) || (s.Effect == EffectCancel) != (s.cancels != nil) {
			t.Errorf("the effect of %s is %q, and it cancels something: %t", s.Name, s.Effect, s.cancels != nil)
		}
		if !s.Shown() && !s.Secret {
			t.Errorf("%s is no secret, and answers do not have it", s.Name)
		}
	}
}

// TestSettingsComeBack: what answers show of a webhook can be sent again, and makes the same webhook; a null makes the default; and what is
// secret stands in no answer.
func TestSettingsComeBack(t *testing.T) {
	w := changedWebhook()
	w.RateLimit, w.AllowNetworks = new(0.5), []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	w.Headers, w.BasicAuth = map[string]Header{"X-A": {Value: "sekret"}}, &BasicAuth{Username: "sekret", Password: "sekret"}
	w.OAuth2 = &OAuth2{TokenURL: "https://sekret.example/", Body: "sekret"}
	w.ContentType, w.Filter, w.Transform, w.URLValues = "text/plain", new(".complete_session"), new("\"a\""), new("{}")
	w.TLS = &TLS{ServerName: "a.example", Key: "sekret", CA: "sekret"}
	w.Method, w.Success = "GET", []int{302, 409}
	w.Signature = &Signature{Header: "X-Signature", Secret: "sekret", Key: "sekret"}
	byDefault := DefaultWebhook()
	for i := range Settings {
		s := &Settings[i]
		if !s.Shown() {
			continue
		}
		if preset, ok := s.Default().(bool); ok {
			w = applyPatch(t, w, fmt.Sprintf(`{%q:%t}`, s.Name, !preset))
		}
		shown, preset := string(s.JSON(&w)), string(s.JSON(&byDefault))
		if shown == preset {
			t.Errorf("%s has its default, %s: give it another value above", s.Name, preset)
		}
		if s.Secret {
			if strings.Contains(shown, "sekret") {
				t.Errorf("answers have %s: %s", s.Name, shown)
			}
		} else if again := applyPatch(t, byDefault, fmt.Sprintf(`{%q:%s}`, s.Name, shown)); string(s.JSON(&again)) != shown {
			t.Errorf("%s: %s came back as %s", s.Name, shown, s.JSON(&again))
		}
		if s.Required != "" {
			continue
		}
		if reset := applyPatch(t, w, fmt.Sprintf(`{%q:null}`, s.Name)); string(s.JSON(&reset)) != preset {
			t.Errorf("null makes %s of %s, want %s", s.JSON(&reset), s.Name, preset)
		}
	}
}

// TestSettingsKeepTheirLimits goes to the bounds of each number and each duration, which are taken, and beyond, which is refused.
func TestSettingsKeepTheirLimits(t *testing.T) {
	for i := range Settings {
		s := &Settings[i]
		try := func(value string, wanted bool) {
			t.Helper()
			if s.Limits.MaxItems > 0 {
				value = "[" + value + "]"
			}
			if _, err := ParseWebhookPatch(fmt.Appendf(nil, `{%q:%s}`, s.Name, value)); (err == nil) != wanted {
				t.Errorf("%s: %s is taken: %t (%v)", s.Name, value, err == nil, err)
			}
		}
		if least, most := s.Limits.Minimum, s.Limits.Maximum; most != 0 {
			below := least - 1
			if least != math.Trunc(least) {
				below = least / 2
			}
			for value, wanted := range map[float64]bool{least: true, most: true, below: false, most + 1: false} {
				try(fmt.Sprintf("%.15g", value), wanted)
			}
		}
		if shortest, longest, ok := strings.Cut(s.Limits.Spans, " to "); ok {
			for bound, beyond := range map[string]time.Duration{shortest: -time.Millisecond, longest: time.Millisecond} {
				d, err := time.ParseDuration(bound)
				if err != nil {
					t.Fatal(err)
				}
				try(fmt.Sprintf("%q", bound), true)
				try(fmt.Sprintf(`"%s"`, d+beyond), false)
			}
		}
	}
}
