package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localsts"
	"credential-broker/policy"
)

// statuses are the broker's error table: :: code → status. An answer that is not in
// it is wrong, and so is `internal`, but for what chaos.lie provokes.
var statuses = map[string]int{
	"invalid_request": 400,
	"missing_token":   401, "invalid_token": 401, "expired_token": 401,
	"no_grant": 403, "invalid_tenant": 403, "scope_not_allowed": 403, "revoked": 403,
	"rate_limited": 429,
	"internal":     500, "sts_rejected": 502,
	"sts_unavailable": 503, "keys_unavailable": 503, "busy": 503,
}

// moment is a place in the order of events. Of two the smaller was first, as the
// test saw it: no clock is asked, and no margin is needed.
type moment = int64

// standing is whether somebody is shut out, as far as the test can know: from the
// writing of a configuration to its coming into force it may be either.
type standing struct {
	mu   sync.Mutex
	seen view
}

type view struct {
	changes   int
	may, must bool
}

func (s *standing) set(may, must bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = view{s.seen.changes + 1, may, must}
}

// now is how it stands; nobody is never shut out.
func (s *standing) now() view {
	if s == nil {
		return view{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// throughout reports whether it was shut out all the time between two views, and
// ever whether it may have been at some time.
func throughout(from, to view) bool { return from == to && from.must }
func ever(from, to view) bool       { return from.may || to.may || from.changes != to.changes }

// signer is one of the issuer's keys.
type signer struct {
	made    moment // it was published after this
	leaving bool   // it may be withdrawn
	gone    moment // it was withdrawn before this; 0: it is not
	proven  bool   // the broker has taken a token of it, so it has the key
	dead    bool   // the broker has a key that was made after this one was gone, so it cannot have this one
}

// session is what STS opened, and what is known of it.
type session struct {
	begun moment    // when STS was asked
	seen  time.Time // when a caller first had it; zero: not yet
	who   string    // whose it is, and for what
}

// oracle judges answers. What it goes by was written down here by the test itself,
// or is what the local STS knows of a session.
type oracle struct {
	clock   atomic.Int64
	total   atomic.Int64 // of answers
	sts     *localsts.Server
	issuer  string
	barrier atomic.Int64 // sessions that began before are of a configuration that is gone

	mu       sync.Mutex
	signers  map[string]*signer       // :: kid → it
	sessions map[string]*session      // :: access key id → it
	records  map[string]broker.Record // :: request id → what was written of it
	answers  map[string]int           // :: what it came to → how often
	wrong    []string                 // what was wrong, the first of it in words
	wrongs   int
	enough   context.CancelFunc // nil, or ends the load
	slowest  time.Duration
}

func newOracle(issuer string) *oracle {
	return &oracle{issuer: issuer, signers: map[string]*signer{}, sessions: map[string]*session{}, records: map[string]broker.Record{}, answers: map[string]int{}}
}

// now makes a moment.
func (o *oracle) now() moment { return o.clock.Add(1) }

// mostWrong is how much of what is wrong is told; with more there is nothing to go on for.
const mostWrong = 20

// wrongly notes something that must not be.
func (o *oracle) wrongly(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrongs++
	if len(o.wrong) < mostWrong {
		o.wrong = append(o.wrong, fmt.Sprintf(format, args...))
	} else if o.enough != nil {
		o.enough()
	}
}

func (o *oracle) count(what string) {
	o.total.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers[what]++
}

func (o *oracle) counted(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.answers[what]
}

// Write takes audit records, which the broker writes before it answers, several at
// once where they come together, and lines of its log. A token is in neither.
func (o *oracle) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("eyJ")) || bytes.Contains(p, []byte("IQoJ")) {
		o.wrongly("a token is in the log or in an audit record: %s", p)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range bytes.Lines(p) {
		var r broker.Record
		if json.Unmarshal(line, &r) == nil && r.Decision != "" {
			o.records[r.RequestID] = r
		}
	}
	return len(p), nil
}

// record returns what was written of a request, once.
func (o *oracle) record(id string) (broker.Record, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.records[id]
	delete(o.records, id)
	return r, ok
}

// opened notes a session of STS.
func (o *oracle) opened(id string, begun moment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sessions[id] = &session{begun: begun}
}

// stands says how a key stands with the broker: whether it surely has it, and
// whether it surely has not.
func (o *oracle) stands(kid string) (has, hasNot bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.signers[kid]
	return s != nil && s.proven && !s.leaving, s == nil || s.dead
}

// made notes a key that the issuer published after the moment, unless it is known.
func (o *oracle) made(kid string, after moment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.signers[kid] == nil {
		o.signers[kid] = &signer{made: after}
	}
}

// leaving and gone note, before and after, that it withdraws one.
func (o *oracle) leaving(kid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.signers[kid].leaving = true
}

func (o *oracle) gone(kid string) {
	now := o.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.signers[kid].gone = now
}

// proved notes that the broker took a token of the key: its key set is no older
// than the key, and so does not hold what had been withdrawn by then.
func (o *oracle) proved(kid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.signers[kid]
	if s == nil {
		return
	}
	s.proven = true
	for _, old := range o.signers {
		old.dead = old.dead || old.gone != 0 && old.gone < s.made
	}
}

// place is what credentials open.
type place struct {
	Tenant, Grant, Bucket, Prefix string
	Access                        []string
	Duration                      string // as asked
}

// question is a request with all that is needed to judge its answer.
type question struct {
	kind   string
	who    *person
	kid    string // of the token; "": it has none that the broker could take
	tenant string // whose place it is
	wants  place  // what is right, if the answer is 200
	code   string // what is right otherwise; "": 200 is right
	format string
}

// answer is what came, and how things stood on either side.
type answer struct {
	status  int
	body    []byte
	header  http.Header
	begun   time.Time
	ended   time.Time
	barrier moment // what began before it is of another configuration, or forgotten
	subject [2]view
	tenant  [2]view
	has     [2]bool // the broker had the key, before and after
	hasNot  bool    // the broker had not, before
}

// judge says what an answer came to, and notes what is wrong with it.
func (o *oracle) judge(q question, a answer) string {
	wrongly := func(format string, args ...any) {
		o.wrongly("%s by %s (%s): %d %s: %s", q.kind, q.who.subject, q.wants.Tenant, a.status, a.body, fmt.Sprintf(format, args...))
	}
	record, recorded := o.record(a.header.Get("X-Request-Id"))
	if a.status == http.StatusOK {
		what := "200 from " + string(record.Source)
		if !recorded || record.Decision != "allow" {
			wrongly("there is no audit record")
		}
		switch {
		case q.code != "":
			wrongly("want %s", q.code)
		case throughout(a.subject[0], a.subject[1]) || throughout(a.tenant[0], a.tenant[1]):
			wrongly("revoked")
		case a.hasNot:
			wrongly("the token's key had been withdrawn")
		default:
			o.credentials(q, a, record, wrongly)
		}
		o.proved(q.kid)
		o.count(what)
		return what
	}
	var refusal struct{ Code, Message, RequestID string }
	if err := json.Unmarshal(a.body, &refusal); err != nil || refusal.Message == "" || refusal.RequestID == "" {
		wrongly("not an error of ours: %v", err)
	}
	what := fmt.Sprintf("%d %s", a.status, refusal.Code)
	if counted := what; q.code == "" && a.status == http.StatusUnauthorized {
		defer o.count(counted + " for a key that is withdrawn, or that the broker does not know yet")
	} else {
		defer o.count(counted)
	}
	if statuses[refusal.Code] != a.status {
		wrongly("not in the table")
	}
	if recorded && string(record.Code) != refusal.Code {
		wrongly("the audit record says %s", record.Code)
	}
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); (a.status == 429 || a.status == 503) && (err != nil || after < 1) {
		wrongly("Retry-After: %q", a.header.Get("Retry-After"))
	}
	provoked := refusal.Code == "internal" && strings.Contains(record.Reason, "answer of STS: ") // by a lie
	if !provoked && !slices.Contains(o.allowed(q, a), refusal.Code) {
		wrongly("reason %q, allowed %q", record.Reason, o.allowed(q, a))
	}
	if a.status == http.StatusForbidden {
		o.proved(q.kid)
	}
	return what
}

// allowed are the refusals that are right for a question.
func (o *oracle) allowed(q question, a answer) []string {
	codes := []string{"rate_limited"}
	if q.code != "" {
		codes = append(codes, q.code)
	}
	if q.code == "invalid_token" || q.kid != "" && (!a.has[0] || !a.has[1]) { // whether the key is one cannot always be known
		codes = append(codes, "invalid_token", "keys_unavailable")
	}
	if ever(a.subject[0], a.subject[1]) || ever(a.tenant[0], a.tenant[1]) {
		codes = append(codes, "revoked")
	}
	if q.code == "" && !throughout(a.subject[0], a.subject[1]) && !throughout(a.tenant[0], a.tenant[1]) && !a.hasNot {
		codes = append(codes, "busy", "sts_unavailable")
	}
	return codes
}

// given is what all formats have in common.
type given struct {
	ID, Secret, Token, Expiration string
	Bucket, Region, Prefix        string
	Access                        []string
	Grant, Account                string
}

// read takes an answer apart, as the client that the format is for does.
func read(format string, body []byte) (given, error) {
	var g given
	var v struct {
		AccessKeyID                                      string `json:"AccessKeyId"`
		SecretAccessKey, Token, SessionToken, Expiration string
		Bucket, Region, Prefix, Grant                    string
		AccountID                                        string `json:"AccountId"`
		Access                                           []string
		Credentials                                      struct {
			AccessKeyID                               string `json:"AccessKeyId"` // in any case: js writes accessKeyId
			SecretAccessKey, SessionToken, Expiration string
		}
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return g, err
	}
	g = given{v.AccessKeyID, v.SecretAccessKey, v.Token + v.SessionToken, v.Expiration, v.Bucket, v.Region, v.Prefix, v.Access, v.Grant, v.AccountID}
	if c := v.Credentials; format == "js" || format == "uppy" {
		g.ID, g.Secret, g.Token, g.Expiration = c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expiration
		g.Account = brokertest.Account
	}
	if format == "uppy" {
		g.Access, g.Grant = nil, ""
	}
	return g, nil
}

// credentials judges an answer 200: whose it is, what it opens, and until when.
func (o *oracle) credentials(q question, a answer, record broker.Record, wrongly func(string, ...any)) {
	g, err := read(q.format, a.body)
	if err != nil || g.ID == "" || g.Secret == "" || g.Token == "" || g.Expiration == "" {
		wrongly("credentials with an empty part: %v", err)
		return
	}
	want := q.wants
	if q.format == "uppy" {
		want.Access, want.Grant = nil, ""
	}
	if g.Bucket != want.Bucket || g.Prefix != want.Prefix || g.Grant != want.Grant || !slices.Equal(g.Access, want.Access) ||
		g.Region != brokertest.Region || g.Account != brokertest.Account {
		wrongly("want %+v", want)
	}
	if record.AccessKeyID != g.ID || record.Tenant != q.wants.Tenant || record.Subject != q.who.subject || record.Grant != q.wants.Grant {
		wrongly("the audit record is of another: %+v", record)
	}
	s, ok := o.sts.Session(g.ID)
	if !ok || s.SecretAccessKey != g.Secret || s.SessionToken != g.Token || s.Expiration.UTC().Format(time.RFC3339) != g.Expiration {
		wrongly("STS never gave these")
		return
	}
	user := policy.UserOf(o.issuer, q.who.subject).String()
	if s.Tags[policy.TagTenant] != q.wants.Tenant || s.Tags[policy.TagUser] != user || s.SourceIdentity != user || s.RoleARN != brokertest.RoleARN {
		wrongly("a session of %v, %s", s.Tags, s.SourceIdentity)
	}
	o.rights(s, q.wants, wrongly)
	o.life(q, a, g.ID, s.Expiration, wrongly)
}

// life judges by what has become of a session: that it is the asker's, that it
// is not of a configuration that is gone, nor forgotten, and that enough is left.
func (o *oracle) life(q question, a answer, id string, expiration time.Time, wrongly func(string, ...any)) {
	o.mu.Lock()
	known := o.sessions[id]
	if known == nil {
		o.mu.Unlock()
		wrongly("no call to STS brought these")
		return
	}
	who := fmt.Sprint(q.who.subject, q.wants)
	if known.who == "" {
		known.who, known.seen = who, a.ended
	}
	is := *known
	o.mu.Unlock()
	if is.who != who {
		wrongly("given before for %s", is.who)
	}
	if is.begun < a.barrier {
		wrongly("from before a reload, a log-out or a DELETE: began at %d, want after %d", is.begun, a.barrier)
	}
	// The broker had them by the time that a caller first did, so that their life is
	// at least from then on; a third of it must be left.
	if left, floor := expiration.Sub(a.begun), expiration.Sub(is.seen)/3; left <= 0 || left < floor {
		wrongly("%s are left, want %s", left, floor)
	}
}

// rights asks STS what a session may do: the role may do everything, so that what
// bounds it is the session policy. Inside it has its rights and no other; beside
// the prefix, above it and in another tenant's it has none.
func (o *oracle) rights(s localsts.Session, is place, wrongly func(string, ...any)) {
	bucket := "arn:aws:s3:::" + is.Bucket
	actions := map[string]string{"read": "s3:GetObject", "write": "s3:PutObject", "delete": "s3:DeleteObject"}
	object := is.Prefix
	if strings.HasSuffix(object, "/") {
		object += "object"
	}
	outside := []string{"object", strings.TrimSuffix(is.Prefix, "/") + "2/object", "tenants/org_other/object", "tenants/object", "users/" + is.Tenant + "/other/object"}
	for right, action := range actions {
		if want := slices.Contains(is.Access, right); s.Authorize(action, bucket+"/"+object, nil).Allowed() != want {
			wrongly("%s on %s: want %t", action, object, want)
		}
		for _, key := range outside {
			if s.Authorize(action, bucket+"/"+key, nil).Allowed() {
				wrongly("%s on %s", action, key)
			}
		}
	}
	list := func(prefix string) bool {
		return s.Authorize("s3:ListBucket", bucket, map[string][]string{"s3:prefix": {prefix}}).Allowed()
	}
	if want := slices.Contains(is.Access, "list"); list(is.Prefix) != want {
		wrongly("s3:ListBucket of %s: want %t", is.Prefix, want)
	}
	for _, prefix := range []string{"", "tenants/", "tenants/org_other/", strings.TrimSuffix(is.Prefix, "/") + "2/"} {
		if list(prefix) {
			wrongly("s3:ListBucket of %q", prefix)
		}
	}
}

// report is what the answers came to.
func (o *oracle) report() (lines []string, all int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(o.answers)) {
		lines = append(lines, fmt.Sprintf("%9d  %s", o.answers[what], what))
		all += o.answers[what]
	}
	return lines, all
}
