package status

import (
	"fmt"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"

	"hookbolt/internal/text"
)

// scraped is metrics by their names.
type scraped map[string]*dto.MetricFamily

// metric finds the metric that has the labels, given as name and value in turn; nil if there is none.
func (m scraped) metric(family string, labels ...string) *dto.Metric {
	for _, metric := range m[family].GetMetric() {
		has := func(name, value string) bool {
			return slices.ContainsFunc(metric.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value })
		}
		fits := true
		for i := 0; i+1 < len(labels); i += 2 {
			fits = fits && has(labels[i], labels[i+1])
		}
		if fits {
			return metric
		}
	}
	return nil
}

// value is NaN where there is no such metric.
func (m scraped) value(family string, labels ...string) float64 {
	switch metric := m.metric(family, labels...); {
	case metric.GetCounter() != nil:
		return metric.GetCounter().GetValue()
	case metric.GetGauge() != nil:
		return metric.GetGauge().GetValue()
	case metric.GetUntyped() != nil:
		return metric.GetUntyped().GetValue()
	}
	return math.NaN()
}

// label is a label's value of a family's first metric; labels are those of all.
func (m scraped) label(family, name string) string { return m.labels(family, name)[0] }

func (m scraped) labels(family, name string) []string {
	values := []string{}
	for _, metric := range m[family].GetMetric() {
		for _, l := range metric.GetLabel() {
			if l.GetName() == name {
				values = append(values, text.OneLine(l.GetValue())) // others may have written it
			}
		}
	}
	if len(values) == 0 {
		return []string{"unknown"}
	}
	return values
}

// quantile is the upper bound of the bucket that a share of a histogram's observations lies in or below; 0 without any.
func (m scraped) quantile(share float64, family string, labels ...string) time.Duration {
	h := m.metric(family, labels...).GetHistogram()
	want := share * float64(h.GetSampleCount())
	for _, bucket := range h.GetBucket() {
		if h.GetSampleCount() > 0 && float64(bucket.GetCumulativeCount()) >= want {
			return seconds(bucket.GetUpperBound())
		}
	}
	return 0
}

// quantiles shows two of them; "" without an observation.
func (m scraped) quantiles(what, family string, labels ...string) string {
	if m.metric(family, labels...).GetHistogram().GetSampleCount() == 0 {
		return ""
	}
	return fmt.Sprintf("%s p50 %s, p99 %s", what, upTo(m.quantile(0.5, family, labels...)), upTo(m.quantile(0.99, family, labels...)))
}

// upTo shows the bound of a bucket.
func upTo(d time.Duration) string {
	if d == maxSpan {
		return "beyond the last bucket"
	}
	return "up to " + d.String()
}

// maxSpan stands for a duration that is too long to be known.
const maxSpan = time.Duration(math.MaxInt64)

// seconds converts a metric in seconds to a duration, rounded: bounds of buckets are 0.1 ms times powers of two.
func seconds(s float64) time.Duration {
	switch d := s * float64(time.Second); {
	case math.IsNaN(s):
		return 0
	case d >= float64(maxSpan):
		return maxSpan
	case s >= 10:
		return time.Duration(d).Round(time.Second)
	case s >= 1:
		return time.Duration(d).Round(100 * time.Millisecond)
	default:
		return time.Duration(d).Round(100 * time.Microsecond)
	}
}

// number writes a count, byteCount a size; "?" where it is not known.
func number(n float64) string { return known(n, text.Number) }

func byteCount(n float64) string { return known(n, text.Bytes) }

func known(n float64, show func(float64) string) string {
	if math.IsNaN(n) {
		return "?"
	}
	return show(n)
}
