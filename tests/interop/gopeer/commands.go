// Commands, one a line: a number, a word, its arguments. Each is answered by an event "done" with its number, an "error"
// that is null if it worked, and what it found; several run at a time.
//
//	1 join ADDR,ADDR              count: completed exchanges
//	2 leave SECONDS               tells the others; the node goes on answering
//	3 shutdown                    closes its sockets without a word
//	4 meta HEX                    announces other metadata
//	5 announce ADDR KEY SHAPE     the same, made by gob
//	6 members                     members: everybody who is not dead or left
//	7 local                       member: the node itself
//	8 ping NAME ADDR              rtt: seconds
//	9 send NAME HEX               a user message in a packet
//	10 send-reliable NAME HEX     a user message over a stream
//	11 health                     score: 0 is best
//	12 cut ADDR,ADDR              from now on no packet goes there
//	13 mend                       packets go everywhere again
//	14 quit                       ends the process without a word to the others
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// As long as wesher waits for an announcement to be out.
const updateTimeout = time.Second

type peer struct {
	out    *teller
	list   *memberlist.Memberlist
	own    *delegate
	config *memberlist.Config
}

func (p *peer) obeyAll(in io.Reader) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20) // a user message may be long
	for lines.Scan() {
		go p.obey(lines.Text())
	}
}

func (p *peer) obey(line string) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return
	}
	found := event{}
	err := p.do(words[1], append(words[2:], "", "", ""), found)
	found["event"], found["id"], found["error"] = "done", words[0], nil
	if err != nil {
		found["error"] = err.Error()
	}
	p.out.say(found)
	if words[1] == "quit" {
		os.Exit(0)
	}
}

func (p *peer) do(command string, argument []string, found event) (err error) {
	switch command {
	case "join":
		found["count"], err = p.list.Join(strings.Split(argument[0], ","))
	case "leave":
		var seconds float64
		if seconds, err = strconv.ParseFloat(argument[0], 64); err == nil {
			err = p.list.Leave(time.Duration(seconds * float64(time.Second)))
		}
	case "shutdown":
		err = p.list.Shutdown()
	case "meta":
		p.own.announce(unhex(argument[0]))
		err = p.list.UpdateNode(updateTimeout)
	case "announce":
		var overlay netip.Addr
		var meta []byte
		if overlay, err = netip.ParseAddr(argument[0]); err == nil {
			if meta, err = encode(argument[2], overlay, argument[1]); err == nil {
				p.own.announce(meta)
				err = p.list.UpdateNode(updateTimeout)
			}
		}
	case "members":
		members := []event{}
		for _, n := range p.list.Members() {
			members = append(members, describe(n))
		}
		found["members"] = members
	case "local":
		found["member"] = describe(p.list.LocalNode())
	case "ping":
		var address *net.UDPAddr
		var roundTrip time.Duration
		if address, err = net.ResolveUDPAddr("udp", argument[1]); err == nil {
			roundTrip, err = p.list.Ping(argument[0], address)
			found["rtt"] = roundTrip.Seconds()
		}
	case "send", "send-reliable":
		send := p.list.SendBestEffort
		if command == "send-reliable" {
			send = p.list.SendReliable
		}
		var to *memberlist.Node
		if to, err = p.member(argument[0]); err == nil {
			err = send(to, unhex(argument[1]))
		}
	case "health":
		found["score"] = p.list.GetHealthScore()
	case "cut", "mend":
		transport, can := p.config.Transport.(*lossyTransport)
		if !can {
			return fmt.Errorf("%s needs -loss", command)
		}
		transport.cut(strings.Split(argument[0], ",")) // mend: nobody
	case "quit":
	default:
		err = fmt.Errorf("no command %q", command)
	}
	return err
}

func (p *peer) member(name string) (*memberlist.Node, error) {
	for _, n := range p.list.Members() {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no member %q", name)
}
