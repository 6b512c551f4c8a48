package versitygw_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"credential-broker/broker/brokertest/versitygw"
)

// behaveEnv makes TestAsTold do something when this binary runs itself.
const behaveEnv = "CREDENTIAL_BROKER_TEST_BEHAVE"

func TestAsTold(t *testing.T) {
	switch os.Getenv(behaveEnv) {
	case "fail":
		t.Error("as told")
	case "die":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "need":
		_, said := need()
		fmt.Println(said)
	default:
		fmt.Println("told nothing")
	}
}

// Inside, a process that gets a fresh network has no Address again, so that
// Isolate has to do all of its work below this test.
func TestIsolatePassesFlagsOutputAndExitCode(t *testing.T) {
	if !inside(t) {
		t.Log("this system allows none")
		return
	}
	for behave, want := range map[string]struct {
		code int
		text string
	}{
		"":     {0, "told nothing"},
		"fail": {1, "as told"},
		"die":  {1, ""},
	} {
		t.Run(behave, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAsTold$")
			cmd.Env = append(os.Environ(), behaveEnv+"="+behave)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: one, GidMappings: one}
			out, err := cmd.CombinedOutput()
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != want.code || !strings.Contains(string(out), want.text) {
				t.Errorf("%d, want %d: %s", code, want.code, out)
			}
			if strings.Contains(string(out), "no network namespace") {
				t.Errorf("not isolated: %s", out)
			}
		})
	}
}

// Where namespaces are refused, other tests of the package still run, and Need
// says why its own do not.
func TestWithoutANamespaceTestsSkip(t *testing.T) {
	if !inside(t) {
		t.Log("as every other test here shows")
		return
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces && exec "$0" "$@"`,
		os.Args[0], "-test.run=^TestAsTold$")
	cmd.Env = append(os.Environ(), behaveEnv+"=need", "CREDENTIAL_BROKER_VERSITYGW="+script(t, ""), "CI=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: one, GidMappings: one}
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"no network namespace", "skip: this system gives the test no network namespace"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v, %q is not in %s", err, want, out)
		}
	}
}

// inside reports whether Isolate could do its work.
func inside(t *testing.T) bool {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", versitygw.Address+":0")
	if err == nil {
		listener.Close()
	}
	return err == nil
}

var one = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
