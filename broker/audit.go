package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RecordVersion is the version of the audit record's schema. A member that is
// added leaves it as it is; one that goes away or changes its meaning does not.
const RecordVersion = 1

// Action is what was asked for, and so what a record is about.
type Action string

// The actions. Every request that brings a token, or should have brought one, is
// one of the first four and has one record.
const (
	ActionCredentials Action = "credentials" // credentials were asked for
	ActionGrants      Action = "grants"      // which grants a token yields
	ActionForget      Action = "forget"      // a caller's own log-out here
	ActionLogout      Action = "logout"      // a log-out at the issuer
	// ActionAudit is not a request: it tells of decisions whose records could not be
	// written. They were refused, all of them.
	ActionAudit Action = "audit"
)

// The decisions.
const (
	Allow = "allow"
	Deny  = "deny"
)

// Record is the audit record of one decision, allowed or denied. It holds no
// secret: a token appears as its SHA-256. Who asked is in it only where a token
// has proved it.
type Record struct {
	V            int       `json:"v"` // RecordVersion
	Time         time.Time `json:"time"`
	Action       Action    `json:"action"`
	Decision     string    `json:"decision"` // Allow or Deny
	Code         Class     `json:"code,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	RequestID    string    `json:"request_id,omitempty"` // absent in ActionAudit alone
	Issuer       string    `json:"issuer,omitempty"`
	Subject      string    `json:"subject,omitempty"`
	Client       string    `json:"client,omitempty"`
	Tenant       string    `json:"tenant,omitempty"`
	Grant        string    `json:"grant,omitempty"`
	RoleARN      string    `json:"role_arn,omitempty"`
	Bucket       string    `json:"bucket,omitempty"`
	Prefix       string    `json:"prefix,omitempty"`
	Access       []string  `json:"access,omitempty"`
	User         string    `json:"user,omitempty"` // the opaque {user}; in mode minted the source identity too
	SessionName  string    `json:"session_name,omitempty"`
	AccessKeyID  string    `json:"access_key_id,omitempty"`
	Expiration   time.Time `json:"expiration,omitzero"`
	Source       Source    `json:"source,omitempty"`
	PolicySHA256 string    `json:"policy_sha256,omitempty"`
	TokenSHA256  string    `json:"token_sha256,omitempty"`
	Address      string    `json:"address,omitempty"`
	UserAgent    string    `json:"user_agent,omitempty"`
}

// Auditor keeps the records. Record returns only when the record is as safe as
// it will get; on an error nothing is released. It must be safe for concurrent
// use, and come back in a time that a caller can wait.
type Auditor interface {
	Record(context.Context, Record) error
}

// maxReason bounds a reason, in bytes. With all else at its longest a record then
// stays below the 4,096 bytes that POSIX writes to a pipe in one piece.
const maxReason = 1024

// Line returns the record as JSON with a newline at its end, and none inside.
func (r Record) Line() ([]byte, error) {
	return r.AppendLine(make([]byte, 0, 1024)) // a record of an exchange has 700 to 900 bytes
}

// AppendLine appends what Line returns: byte for byte what encoding/json makes of the
// record without escaping for HTML, and nothing on an error.
func (r Record) AppendLine(to []byte) ([]byte, error) {
	if len(r.Reason) > maxReason {
		r.Reason = strings.ToValidUTF8(r.Reason[:maxReason], "") + "…"
	}
	line := append(to, `{"v":`...)
	line = strconv.AppendInt(line, int64(r.V), 10)
	line, err := appendTime(append(line, `,"time":`...), r.Time)
	if err != nil {
		return to, fmt.Errorf("write audit record: time: %w", err)
	}
	line = AppendJSON(append(line, `,"action":`...), string(r.Action))
	line = AppendJSON(append(line, `,"decision":`...), r.Decision)
	line = appendMember(line, `,"code":`, string(r.Code))
	line = appendMember(line, `,"reason":`, r.Reason)
	line = appendMember(line, `,"request_id":`, r.RequestID)
	line = appendMember(line, `,"issuer":`, r.Issuer)
	line = appendMember(line, `,"subject":`, r.Subject)
	line = appendMember(line, `,"client":`, r.Client)
	line = appendMember(line, `,"tenant":`, r.Tenant)
	line = appendMember(line, `,"grant":`, r.Grant)
	line = appendMember(line, `,"role_arn":`, r.RoleARN)
	line = appendMember(line, `,"bucket":`, r.Bucket)
	line = appendMember(line, `,"prefix":`, r.Prefix)
	for i, right := range r.Access {
		if i == 0 {
			line = append(line, `,"access":[`...)
		} else {
			line = append(line, ',')
		}
		line = AppendJSON(line, right)
	}
	if len(r.Access) > 0 {
		line = append(line, ']')
	}
	line = appendMember(line, `,"user":`, r.User)
	line = appendMember(line, `,"session_name":`, r.SessionName)
	line = appendMember(line, `,"access_key_id":`, r.AccessKeyID)
	if !r.Expiration.IsZero() {
		if line, err = appendTime(append(line, `,"expiration":`...), r.Expiration); err != nil {
			return to, fmt.Errorf("write audit record: expiration: %w", err)
		}
	}
	line = appendMember(line, `,"source":`, string(r.Source))
	line = appendMember(line, `,"policy_sha256":`, r.PolicySHA256)
	line = appendMember(line, `,"token_sha256":`, r.TokenSHA256)
	line = appendMember(line, `,"address":`, r.Address)
	line = appendMember(line, `,"user_agent":`, r.UserAgent)
	return append(line, "}\n"...), nil
}

// appendMember appends a member, if it has a value.
func appendMember(to []byte, name, value string) []byte {
	if value == "" {
		return to
	}
	return AppendJSON(append(to, name...), value)
}

// AuditLog writes records to what never blocks and never breaks, such as memory.
// What may do either is package auditlog's. It is safe for concurrent use; the
// zero value refuses.
type AuditLog struct {
	mu   sync.Mutex // guards w and room: one line is one Write
	w    io.Writer
	room []byte // for a line
}

var _ Auditor = (*AuditLog)(nil)

// NewAuditLog writes to w, one Write a record.
func NewAuditLog(w io.Writer) *AuditLog { return &AuditLog{w: w} }

// Record implements Auditor.
func (a *AuditLog) Record(_ context.Context, r Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.w == nil {
		return errors.New("write audit record: no destination")
	}
	var err error
	if a.room, err = r.AppendLine(a.room[:0]); err != nil {
		return err
	}
	if _, err := a.w.Write(a.room); err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	return nil
}

func (b *Broker) newRecord(action Action, req Request) Record {
	return Record{V: RecordVersion, Time: b.cfg.Now().UTC(), Action: action, RequestID: req.ID, Address: req.Address, UserAgent: req.UserAgent}
}

// conclude writes the record of what came of a request. It returns err; where there is
// none and the record cannot be written, ErrBusy: nothing may be released. What is
// refused stays refused as it was. Of one subject to whom nothing is released more than
// maxRepeats a second have no record; they are refused.
func (b *Broker) conclude(ctx context.Context, record *Record, token Secret, err error) error {
	record.Decision = Allow
	if record.TokenSHA256 == "" {
		record.TokenSHA256 = token.SHA256()
	}
	if err != nil {
		record.Decision, record.Code, record.Reason = Deny, ClassOf(err), Redact(err.Error())
	}
	if err, tooMany := b.repeat(record, err); tooMany {
		return err
	}
	auditErr := b.cfg.Auditor.Record(ctx, *record)
	switch {
	case auditErr == nil:
		return err
	case err != nil:
		return fmt.Errorf("%w (%w)", err, auditErr)
	default:
		return fmt.Errorf("%w: %w", ErrBusy, auditErr)
	}
}

// Refuse writes the record of a request that is refused before it can be asked
// for anything: it brings no token, or cannot be read, or comes too often. It
// returns err, which is why.
func (b *Broker) Refuse(ctx context.Context, action Action, req Request, err error) error {
	record := b.newRecord(action, req)
	return b.conclude(ctx, &record, req.Token, err)
}

// name fills in who is asking.
func (r *Record) name(id Identity) {
	r.Issuer, r.Subject, r.Client = id.Issuer, id.Subject, id.Client
}

// place fills in what was decided.
func (r *Record) place(s Scope) {
	r.Tenant, r.User, r.Grant, r.RoleARN = s.Tenant.String(), s.User.String(), s.Grant, s.RoleARN.String()
	r.Bucket, r.Prefix, r.Access = s.S3.Bucket.String(), s.S3.Key(), s.S3.Access.Names()
}
