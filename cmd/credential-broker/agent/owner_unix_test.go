//go:build unix

package agent_test

import (
	"io/fs"
	"os"
	"syscall"
	"testing"
	"time"

	"credential-broker/cmd/credential-broker/agent"
)

// owned is a file of somebody's.
type owned struct{ sys any }

func (owned) Name() string       { return "key" }
func (owned) Size() int64        { return 64 }
func (owned) Mode() fs.FileMode  { return 0o600 }
func (owned) ModTime() time.Time { return time.Time{} }
func (owned) IsDir() bool        { return false }
func (o owned) Sys() any         { return o.sys }

// Whoever owns a file says what is in it, and so what opens the credentials.
func TestAFileOfSomebodyElseIsForeign(t *testing.T) {
	me := uint32(os.Geteuid())
	for name, tc := range map[string]struct {
		sys  any
		want bool
	}{
		"one's own": {&syscall.Stat_t{Uid: me}, false}, "root's": {&syscall.Stat_t{}, false},
		"somebody else's": {&syscall.Stat_t{Uid: me + 65534}, true}, "nobody knows whose": {nil, true},
	} {
		if got := agent.Foreign(owned{tc.sys}); got != tc.want {
			t.Errorf("%s: foreign is %v", name, got)
		}
	}
	if os.Geteuid() != 0 {
		return // only root can give a file away
	}
	path := file(t, "key", key, 0o600)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if a, err := agent.ReadAuthorization(path, 0o600); err == nil || a != nil {
		t.Error("a file of somebody else is taken")
	}
}
