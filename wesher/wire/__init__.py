"""Bytes <-> messages: memberlist's wire protocol, and nothing else.

Every function here is pure: it is handed bytes, keys and nonces, and returns values. There is no socket, no clock
and no chance in this package. What a stranger sent wrong is a `WireError`, to be counted and dropped; what we were
about to send wrong is `Unsendable`, a bug of ours.

From the inside out, one file a concept:

    limits errors messages          the vocabulary
    structs -> codec                a struct in msgpack; a message and its type byte
    lzw -> compression              the code stream; the compress message around it
    compound                        several messages in one
    keyring                         AES-GCM under the cluster's keys
    packet, stream                  the layers of a UDP datagram and of a TCP direction
    dissect                         one captured packet or stream as JSON, for `wesher decode`

"Protocol 1.4" in a docstring is section 1.4 of the protocol description (memberlist-protocol.md).
"""
