package agent

import (
	"io/fs"
	"time"
)

// OthersMayRead is the rule for a file's mode, on a system.
func OthersMayRead(mode fs.FileMode, system string) bool { return othersMayRead(mode, system) }

// Sleep makes what is held as old as if the machine had slept for d: timers stand
// still in that time.
func (a *Agent) Sleep(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.good.Expiration = a.good.Expiration.Add(-d)
}
