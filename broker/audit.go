package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Record is the audit record of one decision, allowed or denied. It holds no
// secret: a token appears as its SHA-256.
type Record struct {
	Time         time.Time  `json:"time"`
	Decision     string     `json:"decision"` // "allow" or "deny"
	Code         Class      `json:"code,omitempty"`
	Reason       string     `json:"reason,omitempty"`
	RequestID    string     `json:"request_id"`
	Issuer       string     `json:"issuer,omitempty"`
	Subject      string     `json:"subject,omitempty"`
	Client       string     `json:"client,omitempty"`
	Tenant       string     `json:"tenant,omitempty"`
	Grant        string     `json:"grant,omitempty"`
	RoleARN      string     `json:"role_arn,omitempty"`
	Bucket       string     `json:"bucket,omitempty"`
	Prefix       string     `json:"prefix,omitempty"`
	Access       []string   `json:"access,omitempty"`
	SessionName  string     `json:"session_name,omitempty"`
	AccessKeyID  string     `json:"access_key_id,omitempty"`
	Expiration   *time.Time `json:"expiration,omitempty"`
	Source       Source     `json:"source,omitempty"`
	PolicySHA256 string     `json:"policy_sha256,omitempty"`
	TokenSHA256  string     `json:"token_sha256,omitempty"`
	Address      string     `json:"address,omitempty"`
	UserAgent    string     `json:"user_agent,omitempty"`
}

// Auditor keeps the records. Record returns only when the record is as safe as
// it will get; on an error nothing is released. It must be safe for concurrent
// use.
type Auditor interface {
	Record(context.Context, Record) error
}

// AuditLog writes records as JSON lines. It is safe for concurrent use; the
// zero value refuses.
type AuditLog struct {
	mu sync.Mutex // guards w: one line is one Write
	w  io.Writer
}

var _ Auditor = (*AuditLog)(nil)

// NewAuditLog writes to w, one Write a record.
func NewAuditLog(w io.Writer) *AuditLog { return &AuditLog{w: w} }

// Record implements Auditor.
func (a *AuditLog) Record(_ context.Context, r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.w == nil {
		return fmt.Errorf("write audit record: no destination")
	}
	if _, err := a.w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	return nil
}
