package agent

import (
	"io/fs"
	"time"
)

// OthersMay is the rule for a file's mode, on a system.
func OthersMay(mode fs.FileMode, system string) bool { return othersMay(mode, system) }

// Sleep makes what is held as old as if the machine had slept for d: timers stand
// still in that time.
func (a *Agent) Sleep(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.good.Expiration = a.good.Expiration.Add(-d)
}

// Foreign is the rule for a file's owner.
func Foreign(info fs.FileInfo) bool { return foreign(info) }

// Fail makes the last attempt one that failed, after which another is due since d.
func (a *Agent) Fail(p *Problem, d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problem, a.busy, a.next = p, nil, time.Now().Add(-d)
}
