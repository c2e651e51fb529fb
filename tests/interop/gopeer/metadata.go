// The metadata that the two Go weshers announce, made and read by Go's own gob: a struct "nodeMeta" whose first field is a
// netip.Addr since 0.3 ("master") and was a net.IPNet until 0.2.6 ("v026"). gob writes a type's name but matches fields
// by theirs, and each side refuses the other's.
package main

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"net"
	"net/netip"
)

func encode(shape string, overlay netip.Addr, publicKey string) ([]byte, error) {
	var meta interface{}
	switch shape {
	case "master":
		type nodeMeta struct {
			OverlayAddr netip.Addr
			PubKey      string
		}
		meta = nodeMeta{overlay, publicKey}
	case "v026":
		type nodeMeta struct {
			OverlayAddr net.IPNet
			PubKey      string
		}
		whole := net.CIDRMask(overlay.BitLen(), overlay.BitLen())
		meta = nodeMeta{net.IPNet{IP: overlay.AsSlice(), Mask: whole}, publicKey}
	default:
		return nil, fmt.Errorf("no shape %q", shape)
	}
	var out bytes.Buffer
	err := gob.NewEncoder(&out).Encode(meta)
	return out.Bytes(), err
}

// readings is what each of the two would read: overlay address and key, or the error it would skip the member for.
func readings(meta []byte) event {
	var master struct {
		OverlayAddr netip.Addr
		PubKey      string
	}
	var v026 struct {
		OverlayAddr net.IPNet
		PubKey      string
	}
	return event{
		"master": reading(meta, &master, func() event {
			return event{"overlay": master.OverlayAddr.String(), "key": master.PubKey}
		}),
		"v026": reading(meta, &v026, func() event {
			return event{"overlay": v026.OverlayAddr.String(), "key": v026.PubKey}
		}),
	}
}

func reading(meta []byte, into interface{}, read func() event) event {
	if err := gob.NewDecoder(bytes.NewReader(meta)).Decode(into); err != nil {
		return event{"error": err.Error()}
	}
	return read()
}
