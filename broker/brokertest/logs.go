package brokertest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"

	"credential-broker/broker/brokertest/locals3"
	"credential-broker/broker/brokertest/localsts"
)

// logs writes what AWS would log of S3.
type logs struct {
	access, trail io.Writer
	session       func(accessKeyID string) (localsts.Session, bool)
	mu            sync.Mutex // a line is one Write
}

func (l *logs) write(e locals3.Event) {
	if l.access == nil && l.trail == nil {
		return
	}
	session, _ := l.session(e.AccessKeyID)
	address, _, err := net.SplitHostPort(e.RemoteAddr)
	if err != nil {
		address = e.RemoteAddr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.access != nil {
		_, _ = io.WriteString(l.access, accessLine(e, session, address)) // a test that loses it fails for it
	}
	if l.trail != nil && e.Bucket != "" && e.Key != "" {
		line, err := json.Marshal(dataEvent(e, session, address))
		if err == nil {
			_, _ = l.trail.Write(append(line, '\n'))
		}
	}
}

// accessLine is a line of a server access log. Fields that this S3 has nothing for
// are "-", as there.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
func accessLine(e locals3.Event, session localsts.Session, address string) string {
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	kind := "OBJECT"
	if e.Key == "" {
		kind = "BUCKET"
	}
	owner := strings.Repeat("0", 64)
	return fmt.Sprintf("%s %s [%s] %s %s %s REST.%s.%s %s \"%s %s HTTP/1.1\" %d %s %d - 1 1 \"-\" %q - %s SigV4 - AuthHeader localhost - - -\n",
		owner, dash(e.Bucket), e.At.UTC().Format("02/Jan/2006:15:04:05 -0700"), address, dash(session.AssumedRoleARN), e.RequestID,
		e.Method, kind, dash(url.PathEscape(e.Key)), e.Method, e.URI, e.Status, dash(e.Code), e.Sent, dash(e.UserAgent), owner)
}

// The parts of a data event that lead to who it was.
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
type (
	trailEvent struct {
		EventVersion       string          `json:"eventVersion"`
		UserIdentity       trailIdentity   `json:"userIdentity"`
		EventTime          string          `json:"eventTime"`
		EventSource        string          `json:"eventSource"`
		EventName          string          `json:"eventName"`
		AWSRegion          string          `json:"awsRegion"`
		SourceIPAddress    string          `json:"sourceIPAddress"`
		UserAgent          string          `json:"userAgent"`
		ErrorCode          string          `json:"errorCode,omitempty"`
		RequestParameters  trailParameters `json:"requestParameters"`
		RequestID          string          `json:"requestID"`
		EventType          string          `json:"eventType"`
		EventCategory      string          `json:"eventCategory"`
		RecipientAccountID string          `json:"recipientAccountId"`
	}
	trailIdentity struct {
		Type           string       `json:"type"`
		PrincipalID    string       `json:"principalId,omitempty"`
		ARN            string       `json:"arn,omitempty"`
		AccountID      string       `json:"accountId"`
		AccessKeyID    string       `json:"accessKeyId,omitempty"`
		SessionContext trailSession `json:"sessionContext"`
	}
	trailSession struct {
		SourceIdentity string `json:"sourceIdentity,omitempty"`
	}
	trailParameters struct {
		BucketName string `json:"bucketName"`
		Key        string `json:"key"`
	}
)

func dataEvent(e locals3.Event, session localsts.Session, address string) trailEvent {
	verb := map[string]string{"GET": "Get", "PUT": "Put", "DELETE": "Delete", "HEAD": "Head", "POST": "Post"}[e.Method]
	kind := "AssumedRole"
	if session.AssumedRoleARN == "" {
		kind = "AWSAccount"
	}
	return trailEvent{
		EventVersion: "1.11", EventTime: e.At.UTC().Format("2006-01-02T15:04:05Z"), EventSource: "s3.amazonaws.com", EventName: verb + "Object",
		AWSRegion: Region, SourceIPAddress: address, UserAgent: "[" + e.UserAgent + "]", ErrorCode: e.Code,
		RequestParameters: trailParameters{e.Bucket, e.Key}, RequestID: e.RequestID, EventType: "AwsApiCall", EventCategory: "Data", RecipientAccountID: Account,
		UserIdentity: trailIdentity{
			Type: kind, PrincipalID: session.UserID, ARN: session.AssumedRoleARN, AccountID: Account, AccessKeyID: session.AccessKeyID,
			SessionContext: trailSession{session.SourceIdentity},
		},
	}
}
