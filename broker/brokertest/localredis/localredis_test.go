package localredis_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"credential-broker/broker/brokertest/localredis"
)

// ask sends one command and returns the first line of the answer.
func ask(t *testing.T, s *localredis.Server, command string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

func TestItRunsDiesAndRunsAgain(t *testing.T) {
	s := localredis.Start(t)
	if answer, err := ask(t, s, "SET a b"); err != nil || answer != "+OK\r\n" {
		t.Fatalf("%q, %v", answer, err)
	}
	s.Kill()
	if answer, err := ask(t, s, "PING"); err == nil {
		t.Errorf("a dead one answers %q", answer)
	}
	s.Again()
	if answer, err := ask(t, s, "GET a"); err != nil || answer != "$-1\r\n" {
		t.Errorf("it kept something: %q, %v", answer, err)
	}
	s.Stop()
	s.Continue()
	if answer, err := ask(t, s, "PING"); err != nil || answer != "+PONG\r\n" {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestAWireCanBeCutAndHeld(t *testing.T) {
	s := localredis.Start(t)
	w := s.Wire(t)
	dial := func() *bufio.ReadWriter {
		t.Helper()
		c, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(w.URL(), "redis://"), "/"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
	}
	say := func(c *bufio.ReadWriter, what string) {
		_, _ = c.WriteString(what)
		_ = c.Flush()
	}
	first := dial()
	say(first, "PING\r\n")
	if answer, err := first.ReadString('\n'); answer != "+PONG\r\n" {
		t.Fatalf("%q, %v", answer, err)
	}
	w.Hold()
	say(first, "INCR held\r\n")
	if answer, err := ask(t, s, "GET held"); answer != "$-1\r\n" {
		t.Errorf("it came: %q, %v", answer, err)
	}
	w.Mend()
	if answer, err := first.ReadString('\n'); answer != ":1\r\n" {
		t.Errorf("%q, %v", answer, err)
	}
	w.Cut()
	if answer, err := first.ReadString('\n'); err == nil {
		t.Errorf("after the cut: %q", answer)
	}
	second := dial()
	say(second, "PING\r\n")
	if answer, err := second.ReadString('\n'); err == nil {
		t.Errorf("while it is cut: %q", answer)
	}
	w.Mend()
	third := dial()
	say(third, "PING\r\n")
	if answer, err := third.ReadString('\n'); answer != "+PONG\r\n" {
		t.Errorf("%q, %v", answer, err)
	}
}
