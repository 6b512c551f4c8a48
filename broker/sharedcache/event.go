package sharedcache

// Event is something that is counted.
type Event string

// The events. The first five are how a look for an entry ended.
const (
	Hit       Event = "hit"        // it was an answer
	Waited    Event = "waited"     // it came while another replica asked STS
	Missed    Event = "miss"       // there was none that could be one
	LoggedOut Event = "logged_out" // it was from before a log-out, or from before this replica's knowledge of them
	Tampered  Event = "tampered"   // it does not open, or is not what its name says

	FellBack Event = "fell_back" // an older entry was an answer because STS gave none
	Overdue  Event = "overdue"   // another replica's call took too long: STS was asked here too
	Written  Event = "written"   // an entry was
	Skipped  Event = "skipped"   // Redis was not asked: it is not there, or left alone
	Failed   Event = "failed"    // it was asked, and did not answer in time or could not

	Joined    Event = "joined"    // the journal is followed, from the start or again
	Told      Event = "told"      // a log-out of this replica stands in the journal
	Heard     Event = "heard"     // a log-out was read there, this replica's own too
	Forged    Event = "forged"    // a record of the journal does not open
	OldKey    Event = "old_key"   // one that stood there before this replica followed is by a key that it has not (any more)
	OtherKey  Event = "other_key" // one that came since is: neither hears the other's log-outs
	BeganAnew Event = "began_new" // a part of the journal was missing, here or elsewhere: everything was forgotten
)

// Events returns all of them, for who counts.
func Events() []Event {
	return []Event{Hit, Waited, Missed, LoggedOut, Tampered, FellBack, Overdue, Written, Skipped, Failed, Joined, Told, Heard, Forged, OldKey, OtherKey, BeganAnew}
}
