package iam_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"credential-broker/broker/brokertest/iam"
	"credential-broker/policy"
)

// simulator is the folder of the other evaluator: see its README.md.
const simulator = "../peers/simulate"

// simulatorTime is some ten times what all questions of one run take.
const simulatorTime = 2 * time.Minute

// question is a request of a role's session, and the policies that judge it.
type question struct {
	kind          string // how it was made
	role, session string // documents; without a session policy, session is empty
	request       iam.Request
	scope         policy.Scope
	claim         claim // what the answers are, by the scope
}

// claim says what a scope tells of the requests that policies allow.
type claim int

const (
	nothing claim = iota // the policies are not proved to be confined to it
	inside               // they lie in it
	exactly              // and all that lie in it are allowed
)

func (q question) String() string {
	return fmt.Sprintf("%s: %s on %s with %v\n role %s\n session %s", q.kind, q.request.Action, q.request.Resource, q.request.Context, q.role, q.session)
}

// answer is one line of the simulator's output.
type answer struct {
	ID      string   `json:"id"`
	Result  string   `json:"result"`
	Ignored []string `json:"ignored"`
	Error   string   `json:"error"`
}

// line is the question as the simulator reads it.
func (q question) line(t testing.TB, id string) []byte {
	t.Helper()
	values := map[string]string{}
	for key, v := range q.request.Context {
		if len(v) != 1 {
			t.Fatalf("%s has %d values", key, len(v))
		}
		values[key] = v[0]
	}
	session := json.RawMessage("null")
	if q.session != "" {
		session = json.RawMessage(q.session)
	}
	text, err := json.Marshal(map[string]any{
		"id": id, "principal": "arn:aws:sts::" + account + ":assumed-role/uploads/session",
		"identityPolicies": []json.RawMessage{json.RawMessage(q.role)}, "sessionPolicy": session,
		"action": q.request.Action, "resource": q.request.Resource, "resourceAccount": account, "context": values,
	})
	if err != nil {
		t.Fatalf("%s: %v", q.session, err)
	}
	return append(text, '\n')
}

// needSimulator skips the test where the simulator is not installed. With CI=true
// in the environment the test fails instead, so that a green run means that it
// was asked.
func needSimulator(t *testing.T) (node string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(simulator, "node_modules", "@cloud-copilot", "iam-simulate"))
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("the IAM simulator is not here; `make peers` installs it: %v", err)
	}
	if err != nil {
		t.Skip("the IAM simulator is not here; `make peers` installs it, for Node.js")
	}
	return node
}

// ask gives the simulator's answers, one for each question and in their order.
func ask(t *testing.T, node string, questions []question) []answer {
	t.Helper()
	var in, out, log bytes.Buffer
	for i, q := range questions {
		in.Write(q.line(t, strconv.Itoa(i)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), simulatorTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "simulate.mjs")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = simulator, &in, &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, log.String())
	}
	answers := make([]answer, 0, len(questions))
	for decoder := json.NewDecoder(&out); decoder.More(); {
		var a answer
		if err := decoder.Decode(&a); err != nil {
			t.Fatal(err)
		}
		if n := len(answers); n >= len(questions) || a.ID != strconv.Itoa(n) {
			t.Fatalf("answer %d is to %q", n, a.ID)
		}
		answers = append(answers, a)
	}
	if len(answers) != len(questions) {
		t.Fatalf("%d answers to %d questions: %s", len(answers), len(questions), log.String())
	}
	return answers
}
