package status

import (
	"fmt"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"

	"hookbolt/internal/text"
)

// scraped maps the names of metrics to their families.
type scraped map[string]*dto.MetricFamily

// metric returns the metric with these labels, given as pairs of name and value; nil if there is none.
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

// value returns the value of a counter or gauge; NaN if there is no such metric.
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

// label returns a label's value of the first metric of a family, labels those of all metrics.
func (m scraped) label(family, name string) string { return m.labels(family, name)[0] }

func (m scraped) labels(family, name string) []string {
	values := []string{}
	for _, metric := range m[family].GetMetric() {
		for _, l := range metric.GetLabel() {
			if l.GetName() == name {
				values = append(values, text.OneLine(l.GetValue())) // the server is not trusted
			}
		}
	}
	if len(values) == 0 {
		return []string{"unknown"}
	}
	return values
}

// quantile returns the upper bound of the bucket that contains a quantile of a histogram; 0 without observations.
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

// quantiles formats the median and the 99th percentile; "" without observations.
func (m scraped) quantiles(what, family string, labels ...string) string {
	if m.metric(family, labels...).GetHistogram().GetSampleCount() == 0 {
		return ""
	}
	return fmt.Sprintf("%s p50 %s, p99 %s", what, upTo(m.quantile(0.5, family, labels...)), upTo(m.quantile(0.99, family, labels...)))
}

// upTo formats the upper bound of a bucket.
func upTo(d time.Duration) string {
	if d == maxSpan {
		return "beyond the last bucket"
	}
	return "up to " + d.String()
}

// maxSpan stands for the bound of the last bucket, which is infinite.
const maxSpan = time.Duration(math.MaxInt64)

// seconds converts a metric in seconds to a rounded duration: the bounds of buckets are 0.1 ms times powers of two.
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

// number formats a count and byteCount a size; "?" if the value is unknown.
func number(n float64) string { return known(n, text.Number) }

func byteCount(n float64) string { return known(n, text.Bytes) }

func known(n float64, show func(float64) string) string {
	if math.IsNaN(n) {
		return "?"
	}
	return show(n)
}
