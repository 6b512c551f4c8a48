package auditlog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"credential-broker/broker"
)

// write writes the entry, which may be nil, and those that wait behind it, as one
// piece. Before them goes the record of what was lost until now. Of what could be
// written in part only, the lines that are whole are records.
func (l *Log) write(first *entry) {
	text, told := l.gap(l.text[:0])
	batch, text := l.collect(first, text)
	l.text = text
	defer clear(batch) // run holds on to none
	if len(text) == 0 {
		return
	}
	l.begin()
	n, err := l.to.write(text, l.reopen.Swap(false))
	if err != nil {
		err = fmt.Errorf("write audit record: %w", err)
	}
	l.end(err)
	end := len(text)
	for _, e := range batch {
		end -= len(e.line)
	}
	if end <= n {
		l.told(told)
	}
	lost := 0
	for _, e := range batch {
		if end += len(e.line); end <= n {
			e.done <- nil
			continue
		}
		lost++
		e.done <- err
	}
	if lost > 0 {
		l.lose(lost)
	}
}

// collect takes what waits, as far as anybody still waits for it.
func (l *Log) collect(first *entry, text []byte) ([]*entry, []byte) {
	batch := l.room[:0]
	defer func() { l.room = batch }()
	for e := first; e != nil; {
		if e.state.CompareAndSwap(waiting, taken) {
			batch, text = append(batch, e), append(text, e.line...)
		}
		if len(batch) == maxBatch {
			break
		}
		select {
		case e = <-l.queue:
		default:
			e = nil
		}
	}
	return batch, text
}

// gap appends the record of decisions that have none. It is also how a destination that
// failed is found to work again, since what is not ready is asked for nothing.
func (l *Log) gap(to []byte) (line []byte, told int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 {
		return to, 0
	}
	line, _ = broker.Record{ // nothing in it could fail
		V: broker.RecordVersion, Time: time.Now().UTC(), Action: broker.ActionAudit, Decision: broker.Deny, Code: broker.ErrBusy,
		Reason: fmt.Sprintf("records could not be written from %s on: decisions that were refused without one: %d", l.since.UTC().Format(time.RFC3339), l.lost),
	}.AppendLine(to)
	return line, l.lost
}

// told takes off what a record tells of now.
func (l *Log) told(lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost -= lost
	l.since = time.Now() // of what was lost meanwhile; nearly
}

func (l *Log) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = time.Now()
}

// end notes what came of a write, and says it when it is news.
func (l *Log) end(err error) {
	l.mu.Lock()
	before := l.err
	l.err, l.began = err, time.Time{}
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		l.cfg.Log.LogAttrs(context.Background(), slog.LevelError, "nothing is released: audit records cannot be written",
			slog.String("alert", "audit"), slog.String("error", err.Error()))
	case err == nil && before != nil:
		l.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, "audit records are written again")
	}
}
