// A node of HashiCorp's memberlist for tests: unmodified library, and around it only what a test needs to steer it and to
// see what it sees. It takes the Go wesher's place in a cluster: the same settings and the same gob metadata.
//
//	gopeer -preset wan -name go1 -bind 127.1.0.1 -key BASE64 -overlay 10.1.2.3 -pubkey BASE64
//	gopeer -decode HEX        only says what Go's gob reads in somebody's metadata, in both shapes
//
// -preset comes first: it sets what the other flags change. Events and answers are JSON on standard output, one a line;
// commands come on standard input (commands.go), and its end is the node's end. Standard error is memberlist's log alone.
package main

import (
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"net/netip"
	"os"
	"strings"

	"github.com/hashicorp/memberlist"
)

var presets = map[string]func() *memberlist.Config{
	"lan":   memberlist.DefaultLANConfig,
	"wan":   memberlist.DefaultWANConfig, // what wesher takes
	"local": memberlist.DefaultLocalConfig,
}

func main() {
	log.SetFlags(0)
	config := memberlist.DefaultWANConfig()
	flag.Func("preset", "lan, wan or local; first of all flags", func(name string) error {
		preset, known := presets[name]
		if !known {
			return fmt.Errorf("no preset %q", name)
		}
		*config = *preset()
		return nil
	})
	flag.StringVar(&config.Name, "name", config.Name, "node name")
	flag.StringVar(&config.BindAddr, "bind", "0.0.0.0", "address to listen at")
	flag.IntVar(&config.BindPort, "port", 7946, "port to listen at; 0: any")
	flag.StringVar(&config.AdvertiseAddr, "advertise", "", "address to announce, if not the one listened at")
	advertisePort := flag.Int("advertise-port", -1, "port to announce, if not the one listened at")
	protocolVersion := flag.Uint("protocol-version", uint(config.ProtocolVersion), "")
	flag.DurationVar(&config.TCPTimeout, "tcp-timeout", config.TCPTimeout, "")
	flag.DurationVar(&config.ProbeInterval, "probe-interval", config.ProbeInterval, "")
	flag.DurationVar(&config.ProbeTimeout, "probe-timeout", config.ProbeTimeout, "")
	flag.IntVar(&config.IndirectChecks, "indirect-checks", config.IndirectChecks, "")
	flag.DurationVar(&config.GossipInterval, "gossip-interval", config.GossipInterval, "")
	flag.IntVar(&config.GossipNodes, "gossip-nodes", config.GossipNodes, "")
	flag.DurationVar(&config.GossipToTheDeadTime, "gossip-to-the-dead", config.GossipToTheDeadTime, "")
	flag.DurationVar(&config.PushPullInterval, "push-pull-interval", config.PushPullInterval, "")
	flag.IntVar(&config.SuspicionMult, "suspicion-mult", config.SuspicionMult, "")
	flag.IntVar(&config.SuspicionMaxTimeoutMult, "suspicion-max-timeout-mult", config.SuspicionMaxTimeoutMult, "")
	flag.IntVar(&config.RetransmitMult, "retransmit-mult", config.RetransmitMult, "")
	flag.DurationVar(&config.DeadNodeReclaimTime, "dead-reclaim", config.DeadNodeReclaimTime, "")
	flag.BoolVar(&config.EnableCompression, "compression", config.EnableCompression, "")
	flag.BoolVar(&config.DisableTcpPings, "disable-tcp-pings", config.DisableTcpPings, "")
	flag.BoolVar(&config.GossipVerifyIncoming, "verify-incoming", config.GossipVerifyIncoming, "")
	flag.BoolVar(&config.GossipVerifyOutgoing, "verify-outgoing", config.GossipVerifyOutgoing, "")
	key := flag.String("key", "", "cluster key in base64; empty: no encryption")
	join := flag.String("join", "", "whom to join, separated by commas")
	rawMeta := flag.String("meta", "", "metadata in hex, in place of the Go wesher's")
	var overlay netip.Addr
	flag.TextVar(&overlay, "overlay", netip.Addr{}, "overlay address in the metadata")
	publicKey := flag.String("pubkey", "", "WireGuard key in the metadata, base64")
	shape := flag.String("meta-shape", "master", "of the metadata: master or v026")
	userState := flag.String("user-state", "", "what a push/pull carries besides members, hex")
	extra := flag.String("tell", "merge,ping,state", "events besides those of membership: alive, merge, ping, state")
	mapped := flag.Bool("mapped", false, "announce an IPv4 address in 16 bytes, as who listens at 0.0.0.0 does")
	loss := flag.Float64("loss", -1, "drop this part of the packets it sends; 0 or more makes cut and mend work")
	lossSeed := flag.Int64("loss-seed", 1, "")
	decode := flag.String("decode", "", "metadata in hex: say what Go reads in it, and end")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("not understood: %q", flag.Args())
	}

	out := &teller{}
	if *decode != "" {
		out.say(event{"event": "decoded", "read": readings(unhex(*decode))})
		return
	}
	config.ProtocolVersion = uint8(*protocolVersion)
	config.AdvertisePort = config.BindPort // as wesher does
	if *advertisePort >= 0 {
		config.AdvertisePort = *advertisePort
	}
	secret, err := base64.StdEncoding.DecodeString(*key)
	if err != nil {
		log.Fatalf("-key: %v", err)
	}
	config.SecretKey = secret
	config.LogOutput = os.Stderr
	if *mapped || *loss >= 0 {
		config.Transport = newLossyTransport(config, *mapped, *loss, *lossSeed)
	}

	told := map[string]bool{}
	for _, kind := range strings.Split(*extra, ",") {
		told[kind] = true
	}
	own := &delegate{out: out, told: told, userState: unhex(*userState)}
	config.Delegate, config.Events, config.Conflict = own, own, own
	config.Merge, config.Ping, config.Alive = own, own, own
	// wesher's first announcement is without metadata, its second with: so it joins with incarnation 2
	list, err := memberlist.Create(config)
	if err != nil {
		log.Fatalf("cannot start: %v", err)
	}
	if *rawMeta != "" {
		own.announce(unhex(*rawMeta))
	} else if overlay.IsValid() {
		meta, err := encode(*shape, overlay, *publicKey)
		if err != nil {
			log.Fatalf("metadata: %v", err)
		}
		own.announce(meta)
	}
	_ = list.UpdateNode(updateTimeout)
	ready := describe(list.LocalNode())
	ready["event"] = "ready"
	out.say(ready)

	peer := &peer{out: out, list: list, own: own, config: config}
	if *join != "" {
		peer.obey("0 join " + *join)
	}
	peer.obeyAll(os.Stdin)
}

func unhex(text string) []byte {
	raw, err := hex.DecodeString(text)
	if err != nil {
		log.Fatalf("not hex: %q", text)
	}
	return raw
}
