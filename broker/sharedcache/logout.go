package sharedcache

import (
	"crypto/rand"

	"credential-broker/broker"
)

func newID() string { return rand.Text() }

// Forgetter returns one that forgets everywhere: here at once, which is next's, and
// on the other replicas as soon as they can be told.
func (s *Store) Forgetter(next broker.Forgetter) broker.Forgetter { return forgetter{s, next} }

type forgetter struct {
	s    *Store
	next broker.Forgetter
}

// Forget implements broker.Forgetter.
func (f forgetter) Forget(issuer, subject string) {
	f.next.Forget(issuer, subject)
	f.s.journal.tell(record{Kind: kindLogout, Issuer: issuer, Subject: subject})
}

// forget does so for a session's subject that this replica knows.
func (s *Store) forget(issuer, subject string) {
	s.cfg.Forget(issuer, subject)
	s.journal.tell(record{Kind: kindLogout, Issuer: issuer, Subject: subject})
}

// Sessions returns sessions that have the other replicas asked where this one does
// not know whose a session is: one that does has its subject forgotten everywhere.
func (s *Store) Sessions(next broker.Sessions) broker.Sessions { return sessions{next, s} }

type sessions struct {
	broker.Sessions
	s *Store
}

// Subject implements broker.Sessions.
func (n sessions) Subject(issuer, session string) (string, bool) {
	subject, known := n.Sessions.Subject(issuer, session)
	if !known {
		n.s.journal.tell(record{Kind: kindSession, Issuer: issuer, Session: session})
	}
	return subject, known
}
