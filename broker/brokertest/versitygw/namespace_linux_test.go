package versitygw_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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
	case "pid":
		fmt.Println("pid", os.Getpid())
	case "wait":
		fmt.Println("waiting")
		<-time.After(10 * time.Second) // that it comes to this is the failure
		fmt.Println("survived")
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
			cmd := self(t, behave, 0)
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
	cmd := self(t, "need", 0)
	cmd.Args = append([]string{"sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces && exec "$0" "$@"`}, cmd.Args...)
	cmd.Path = "/bin/sh"
	cmd.Env = append(cmd.Env, "CREDENTIAL_BROKER_VERSITYGW="+script(t, ""), "CI=")
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"no network namespace", "skip: this system gives the test no network namespace"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v, %q is not in %s", err, want, out)
		}
	}
}

func TestARefusalOfTheKernelIsTold(t *testing.T) {
	if !inside(t) {
		t.Log("as every other test here shows")
		return
	}
	cmd := self(t, "", 1000)
	cmd.Env = append(cmd.Env, "CREDENTIAL_BROKER_NAMESPACE=1")
	out, err := cmd.CombinedOutput()
	if want := "no network namespace: bring lo up: operation not permitted"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, %q is not in %s", err, want, out)
	}
}

// A fuzz worker, which has its pipes, is started from inside.
func TestInsideANamespaceNothingIsRunAgain(t *testing.T) {
	if !inside(t) {
		t.Log("this system allows none")
		return
	}
	cmd := self(t, "pid", 0)
	cmd.SysProcAttr = nil
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintln("pid", cmd.Process.Pid); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, %q is not in %s", err, want, out)
	}
}

func TestWhatEndsTheOuterProcessEndsTheInner(t *testing.T) {
	if !inside(t) {
		t.Log("this system allows none")
		return
	}
	for s, want := range map[syscall.Signal]string{
		syscall.SIGKILL: "", syscall.SIGTERM: "",
		syscall.SIGQUIT: "versitygw_test.TestAsTold(", // its stack, not the outer one's
	} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			reader, writer := io.Pipe()
			cmd := self(t, "wait", 0)
			cmd.Stdout, cmd.Stderr = writer, writer
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go func() { writer.CloseWithError(cmd.Wait()) }() // comes when nobody holds the output any more
			lines, found := bufio.NewScanner(reader), false
			for lines.Scan() {
				found = found || strings.Contains(lines.Text(), want)
				switch lines.Text() {
				case "waiting":
					if err := cmd.Process.Signal(s); err != nil {
						t.Error(err)
					}
				case "survived":
					t.Error("the inner process outlived the outer")
				}
			}
			if !found {
				t.Errorf("%q was not said", want)
			}
		})
	}
}

func TestAServerThatDoesNotStartIsGoneAndSawNoneOfOurEnvironment(t *testing.T) {
	t.Setenv("VGW_READ_ONLY", "true")
	_, ca, err := versitygw.NewTLS()
	if err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = versitygw.Start(ctx, versitygw.Config{
		Binary: script(t, `echo "pid=$$"; env; echo "arguments=$*"; exec sleep 60`), Dir: t.TempDir(), Output: &output,
		Provider: versitygw.Provider{URL: issuerURL, CA: ca},
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	said := map[string]string{}
	for line := range strings.Lines(output.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[name] = value
	}
	pid, err := strconv.Atoi(said["pid"])
	if err != nil {
		t.Fatalf("%v: %s", err, output.String())
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if _, ok := said["VGW_READ_ONLY"]; ok {
		t.Error("a flag of the server came from our environment")
	}
	if secret := said["ROOT_SECRET_ACCESS_KEY"]; len(secret) < 20 || strings.Contains(said["arguments"], secret) {
		t.Errorf("the root secret %q is short, or an argument: %s", secret, said["arguments"])
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

// self is this binary in a fresh network, told how to behave. A uid that is not 0
// has no capabilities there.
func self(t *testing.T, behave string, uid int) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAsTold$")
	cmd.Env = append(os.Environ(), behaveEnv+"="+behave, "GORACE=atexit_sleep_ms=0") // it waits a second otherwise
	mapping := []syscall.SysProcIDMap{{ContainerID: uid, HostID: 0, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: mapping, GidMappings: mapping,
	}
	return cmd
}
