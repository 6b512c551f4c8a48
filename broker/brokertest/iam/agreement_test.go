package iam_test

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"credential-broker/broker/brokertest/iam"
	"credential-broker/policy"
)

// How much is asked. The simulator takes seconds for all of it.
const (
	samples  = 180 // grants with a scope
	requests = 4   // of each sample
	mistakes = 3   // in documents that each request is judged by
)

// Two evaluators, of which somebody else wrote one, answer alike: for the
// policies in use, and for such as those that let tenants out elsewhere. And by
// the other one's answer, too, what a document opens is exactly its scope, and
// nothing that the proof calls confined is open outside.
func TestAnotherEvaluatorAnswersAlike(t *testing.T) {
	node := needSimulator(t)
	s := sampler{t, rand.New(rand.NewPCG(2012, 10))}
	var questions []question
	for range samples {
		questions = append(questions, s.questions()...)
	}
	asked, allowed, escaped := map[string]int{}, map[string]int{}, map[string]int{}
	wrong := 0
	for i, a := range ask(t, node, questions) {
		q := questions[i]
		asked[q.kind]++
		if wrong >= 20 {
			t.Fatal("and so on")
		}
		if a.Error != "" || len(a.Ignored) > 0 {
			wrong++
			t.Errorf("no answer, or to another request: %s %q\n%s", a.Error, a.Ignored, q)
			continue
		}
		if ours := q.ours(t); ours != a.Result {
			wrong++
			t.Errorf("%s, and by the simulator %s\n%s", ours, a.Result, q)
		}
		open, within := a.Result == "Allowed", contains(q.scope, q.request)
		if q.claim >= inside && open && !within || q.claim == exactly && within && !open {
			wrong++
			t.Errorf("by the simulator %s, and in the scope: %t\n%s", a.Result, within, q)
		}
		if open {
			allowed[q.kind]++
			allowed[q.request.Action]++
		}
		if open && !within {
			escaped[q.kind]++
		}
	}
	t.Log(len(questions), "asked:", asked, "allowed:", allowed, "outside:", escaped)
	enough(t, asked, samples, slices.Collect(maps.Keys(asked))...)
	enough(t, allowed, samples/10, slices.Collect(maps.Keys(asked))...)
	enough(t, allowed, samples/10, actions()[:8]...) // those that scopes give
	enough(t, escaped, samples/10, "mistake", "raw claim")
}

// enough fails where too little has happened to say anything.
func enough(t *testing.T, counted map[string]int, least int, names ...string) {
	t.Helper()
	for _, name := range names {
		if counted[name] < least {
			t.Errorf("%s: %d, at least %d", name, counted[name], least)
		}
	}
}

// questions draws a sample, requests around it, and policies to judge them.
func (s sampler) questions() []question {
	d := s.sample()
	var all []question
	for range requests {
		own := s.probe(d)
		foreign := tagged(own, pick(s, "", "acme", "acme-2", "globex", "*", "?", "acm?", "${*}", "ACME", d.tenant+"/in", "..", "/"), d.user)
		own = tagged(own, d.tenant, d.user)
		all = append(all,
			question{kind: "role and session", role: d.role, session: d.doc, request: own, scope: d.scope, claim: exactly},
			question{kind: "session", role: wide, session: d.doc, request: own, scope: d.scope, claim: exactly},
			question{kind: "role", role: d.role, request: own, scope: d.whole, claim: exactly},
			question{kind: "another's tags", role: d.role, session: d.doc, request: foreign, scope: d.scope, claim: inside},
		)
		for range mistakes {
			mistake, raw := s.readable(s.mistaken, d, own), s.readable(s.raw, d, own)
			all = append(all,
				question{kind: "mistake", role: wide, session: mistake, request: own, scope: d.scope, claim: proved(mistake, d.scope)},
				question{kind: "raw claim", role: wide, session: raw, request: own, scope: d.scope, claim: proved(raw, d.scope)},
				// Whatever the session policy, the role keeps to the tenant's place.
				question{kind: "role and mistake", role: d.role, session: mistake, request: own, scope: d.whole, claim: inside},
				question{kind: "role and raw claim", role: d.role, session: raw, request: own, scope: d.whole, claim: inside},
			)
		}
	}
	return all
}

// readable draws until our own evaluator reads the document, which takes less
// than IAM does.
func (s sampler) readable(draw func(sample) string, d sample, req iam.Request) string {
	for {
		text := draw(d)
		if _, err := iam.Parse([]byte(text)); err == nil && !undecided(text, req) {
			return text
		}
	}
}

// undecided reports whether two readers may differ, and AWS does not say which is
// right: "?" is one byte to our evaluator and one UTF-16 unit to the simulator.
func undecided(document string, req iam.Request) bool {
	beyondASCII := func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r > '~' }) }
	return strings.Contains(document, "?") && (beyondASCII(req.Resource) || slices.ContainsFunc(slices.Concat(slices.Collect(maps.Values(req.Context))...), beyondASCII))
}

// proved is what can be claimed of a document.
func proved(document string, scope policy.Scope) claim {
	if policy.Confined(document, scope) != nil {
		return nothing
	}
	return inside
}

// ours is our own answer, in the simulator's words.
func (q question) ours(t testing.TB) string {
	t.Helper()
	decisions := []iam.Decision{iam.Decide(q.request, parse(t, q.role))}
	if q.session != "" {
		decisions = append(decisions, iam.Decide(q.request, parse(t, q.session)))
	}
	switch {
	case slices.Contains(decisions, iam.ExplicitDeny):
		return "ExplicitlyDenied"
	case slices.Contains(decisions, iam.ImplicitDeny):
		return "ImplicitlyDenied"
	default:
		return "Allowed"
	}
}

// contains reports whether the scope gives the request, by neither a policy nor
// an evaluator.
func contains(s policy.Scope, req iam.Request) bool {
	value := func(key string) string { return strings.Join(req.Context[key], "") }
	within := func(key string) bool {
		return key == s.Key() || !s.Path.IsObject() && strings.HasPrefix(key, s.Key())
	}
	bucket := "arn:aws:s3:::" + s.Bucket.String()
	if !gives(s, req.Action) {
		return false
	}
	if strings.HasPrefix(req.Action, "kms:") {
		object := value("kms:EncryptionContext:aws:s3:arn")
		key, inBucket := strings.CutPrefix(object, bucket+"/")
		return req.Resource == s.KMSKey.String() && value("kms:ViaService") == "s3.eu-west-1.amazonaws.com" && (object == bucket || inBucket && within(key))
	}
	if from, err := netip.ParseAddr(value("aws:SourceIp")); s.SourceIP.IsValid() && (err != nil || from != s.SourceIP) {
		return false
	}
	if req.Action == "s3:ListBucket" {
		return req.Resource == bucket && within(value("s3:prefix"))
	}
	key, inBucket := strings.CutPrefix(req.Resource, bucket+"/")
	return inBucket && within(key)
}

// gives reports whether an action is among those that the scope's rights are.
func gives(s policy.Scope, action string) bool {
	switch action {
	case "s3:GetObject":
		return s.Access.Has(policy.Read)
	case "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts":
		return s.Access.Has(policy.Write)
	case "s3:DeleteObject":
		return s.Access.Has(policy.Delete)
	case "s3:ListBucket":
		return s.Access.Has(policy.List)
	case "kms:Decrypt":
		return !s.KMSKey.IsZero() && (s.Access.Has(policy.Read) || s.Access.Has(policy.Write))
	case "kms:GenerateDataKey":
		return !s.KMSKey.IsZero() && s.Access.Has(policy.Write)
	default:
		return false
	}
}
