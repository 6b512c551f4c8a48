package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"credential-broker/broker/brokertest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"credential-broker": main})
}

// The scripts run the program as it is built, each with a local Auth0 at
// $ISSUER, some free addresses, and the commands below.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			ctx, stop := context.WithCancel(context.Background())
			env.Defer(stop)
			listener, err := brokertest.Listen(ctx, "127.0.0.1:0")
			if err != nil {
				return err
			}
			issuer := "http://" + listener.Addr().String() + "/"
			auth0, err := brokertest.NewAuth0(issuer, "", false)
			if err != nil {
				return err
			}
			go func() { _ = brokertest.Serve(ctx, listener, auth0) }()
			token, err := auth0.UserToken("alice@acme.test")
			if err != nil {
				return err
			}
			stranger, err := auth0.UserToken("mallory@nowhere.test")
			if err != nil {
				return err
			}
			env.Setenv("ISSUER", issuer)
			env.Setenv("ISSUER_ADDRESS", listener.Addr().String())
			env.Setenv("TOKEN", token)
			env.Setenv("STRANGER", stranger)
			for _, name := range []string{"LISTEN", "ADMIN", "NOWHERE", "ADDRESS"} {
				env.Setenv(name, freeAddress())
			}
			for name, text := range map[string]string{"token.jwt": token, "stranger.jwt": stranger} {
				if err := os.WriteFile(env.Cd+"/"+name, []byte(text+"\n"), 0o600); err != nil {
					return err
				}
			}
			example, err := os.ReadFile("../../deploy/config.example.yaml")
			if err != nil {
				return err
			}
			return os.WriteFile(env.Cd+"/example.yaml", example, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"chmod": cmdChmod, "await": cmdAwait, "until": cmdUntil, "hangup": cmdHangup, "http": cmdHTTP, "status": cmdStatus,
		},
	})
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// chmod MODE FILE
func cmdChmod(ts *testscript.TestScript, _ bool, args []string) {
	mode, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	ts.Check(os.Chmod(ts.MkAbs(args[1]), os.FileMode(mode)))
}

// await URL: until it answers 200.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, args[0], nil)
		ts.Check(err)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	ts.Fatalf("%s does not answer", args[0])
}

// until PATTERN URL: until the answer's body matches.
func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	deadline := time.Now().Add(20 * time.Second)
	body := ""
	for time.Now().Before(deadline) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, args[1], nil)
		ts.Check(err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil { // it does not listen yet
			body = err.Error()
			<-time.After(10 * time.Millisecond)
			continue
		}
		data, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		ts.Check(err)
		if body = string(data); pattern.MatchString(body) {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	ts.Fatalf("%s answers %s", args[1], body)
}

// hangup: sends SIGHUP to the first program in the background.
func cmdHangup(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.BackgroundCmds()[0].Process.Signal(syscall.SIGHUP))
}

// http METHOD URL [HEADER: VALUE]...: prints the answer as curl -i would.
func cmdHTTP(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequestWithContext(context.Background(), args[0], args[1], nil)
	ts.Check(err)
	for _, header := range args[2:] {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var out strings.Builder
	fmt.Fprintf(&out, "status %d\n", resp.StatusCode)
	for name, values := range resp.Header {
		fmt.Fprintf(&out, "%s: %s\n", name, strings.Join(values, ", "))
	}
	_, err = fmt.Fprintf(ts.Stdout(), "%s\n%s\n", out.String(), body)
	ts.Check(err)
}

// status CODE PROGRAM ARG...: runs it and wants that exit code.
func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		code = -1
		if _, text, ok := strings.Cut(err.Error(), "exit status "); ok {
			code, _ = strconv.Atoi(text)
		}
	}
	if want, _ := strconv.Atoi(args[0]); code != want {
		ts.Fatalf("exit %d (%v), want %d", code, err, want)
	}
}
