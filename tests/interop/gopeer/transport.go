// memberlist's own transport with two additions, both on the sending side: packets that get lost, and the 16-byte form of
// an IPv4 address, which memberlist announces when it listens at 0.0.0.0 and has to choose an address itself.
package main

import (
	"log"
	"math/rand"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

type lossyTransport struct {
	*memberlist.NetTransport
	mapped bool
	loss   float64

	sync.Mutex
	chance  *rand.Rand
	severed map[string]bool
}

func newLossyTransport(config *memberlist.Config, mapped bool, loss float64, seed int64) *lossyTransport {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{config.BindAddr},
		BindPort:  config.BindPort,
		Logger:    log.New(os.Stderr, "", log.LstdFlags),
	})
	if err != nil {
		log.Fatalf("cannot listen: %v", err)
	}
	if config.BindPort == 0 {
		config.BindPort, config.AdvertisePort = inner.GetAutoBindPort(), inner.GetAutoBindPort()
	}
	return &lossyTransport{NetTransport: inner, mapped: mapped, loss: loss, chance: rand.New(rand.NewSource(seed))}
}

func (t *lossyTransport) FinalAdvertiseAddr(address string, port int) (net.IP, int, error) {
	chosen, port, err := t.NetTransport.FinalAdvertiseAddr(address, port)
	if err == nil && t.mapped {
		chosen = chosen.To16()
	}
	return chosen, port, err
}

// cut keeps packets from these addresses, "host:port", until it is called with others.
func (t *lossyTransport) cut(addresses []string) {
	t.Lock()
	defer t.Unlock()
	t.severed = map[string]bool{}
	for _, address := range addresses {
		t.severed[address] = true
	}
}

func (t *lossyTransport) isLost(address string) bool {
	t.Lock()
	defer t.Unlock()
	return t.severed[address] || t.chance.Float64() < t.loss
}

func (t *lossyTransport) WriteTo(packet []byte, address string) (time.Time, error) {
	return t.WriteToAddress(packet, memberlist.Address{Addr: address})
}

func (t *lossyTransport) WriteToAddress(packet []byte, to memberlist.Address) (time.Time, error) {
	if t.isLost(to.Addr) {
		return time.Now(), nil
	}
	return t.NetTransport.WriteToAddress(packet, to)
}
