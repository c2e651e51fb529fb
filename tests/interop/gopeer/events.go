// What a node sees, told as it happens. memberlist calls these with its lock held, so they only write a line.
package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

type event map[string]interface{}

// teller writes whole lines to standard output, whoever speaks.
type teller struct{ sync.Mutex }

func (t *teller) say(what event) {
	t.Lock()
	defer t.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(what)
}

// describe is one member: name, address as text and as the bytes announced, metadata as bytes and as Go's gob reads it.
func describe(n *memberlist.Node) event {
	return event{
		"name":  n.Name,
		"addr":  n.Addr.String(),
		"bytes": hex.EncodeToString(n.Addr),
		"port":  n.Port,
		"meta":  hex.EncodeToString(n.Meta),
		"read":  readings(n.Meta),
		"vsn":   []int{int(n.PMin), int(n.PMax), int(n.PCur), int(n.DMin), int(n.DMax), int(n.DCur)},
	}
}

// delegate is all of memberlist's delegates in one.
type delegate struct {
	out       *teller
	told      map[string]bool
	userState []byte

	sync.Mutex
	meta []byte
}

func (d *delegate) tell(kind string, n *memberlist.Node) {
	what := describe(n)
	what["event"] = kind
	d.out.say(what)
}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.tell("join", n) }
func (d *delegate) NotifyLeave(n *memberlist.Node)  { d.tell("leave", n) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.tell("update", n) }

func (d *delegate) NotifyConflict(known, other *memberlist.Node) {
	what := describe(other)
	what["event"], what["known"] = "conflict", describe(known)
	d.out.say(what)
}

// NotifyAlive comes with every announcement that is heard, also with those that change nothing.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if d.told["alive"] {
		d.tell("alive", n)
	}
	return nil
}

func (d *delegate) NotifyMerge(nodes []*memberlist.Node) error {
	if d.told["merge"] {
		names := make([]string, 0, len(nodes))
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		d.out.say(event{"event": "merge", "names": names})
	}
	return nil
}

func (d *delegate) AckPayload() []byte { return nil }

func (d *delegate) NotifyPingComplete(n *memberlist.Node, roundTrip time.Duration, payload []byte) {
	if d.told["ping"] {
		d.out.say(event{
			"event": "ping", "name": n.Name, "rtt": roundTrip.Seconds(), "payload": hex.EncodeToString(payload),
		})
	}
}

func (d *delegate) announce(meta []byte) {
	d.Lock()
	defer d.Unlock()
	d.meta = meta
}

func (d *delegate) NodeMeta(limit int) []byte {
	d.Lock()
	defer d.Unlock()
	return d.meta
}

func (d *delegate) NotifyMsg(message []byte) {
	d.out.say(event{"event": "user", "message": hex.EncodeToString(message)})
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte { return nil }

func (d *delegate) LocalState(join bool) []byte { return d.userState }

func (d *delegate) MergeRemoteState(state []byte, join bool) {
	if d.told["state"] {
		d.out.say(event{"event": "state", "state": hex.EncodeToString(state), "join": join})
	}
}
