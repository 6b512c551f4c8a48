package telemetry

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A native histogram's buckets grow by a tenth, which is finer than anybody needs;
// of more than so many the coarser ones are made (a second of spread has 73).
const (
	nativeFactor  = 1.1
	nativeBuckets = 100
	nativeReset   = time.Hour
)

func counter(r prometheus.Registerer, name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	r.MustRegister(c)
	return c
}

func counterVec(r prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	r.MustRegister(c)
	return c
}

// words makes a counter for each word.
func words(r prometheus.Registerer, name, help, label string, all []string) counters {
	vec, made := counterVec(r, name, help, label), counters{}
	for _, word := range slices.Concat(all, []string{other}) {
		made[word] = vec.WithLabelValues(word)
	}
	return made
}

func gauge(r prometheus.Registerer, name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	r.MustRegister(g)
	return g
}

func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeBuckets, NativeHistogramMinResetDuration: nativeReset,
	}
}

func histogram(r prometheus.Registerer, name, help string, buckets []float64) prometheus.Observer {
	h := prometheus.NewHistogram(histogramOpts(name, help, buckets))
	r.MustRegister(h)
	return h
}

func histogramVec(r prometheus.Registerer, name, help string, buckets []float64, label string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(histogramOpts(name, help, buckets), []string{label})
	r.MustRegister(h)
	return h
}
