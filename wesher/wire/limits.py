"""The sizes of the wire, each with its reason.

Two kinds: what other nodes hold us to (a datagram, a compound's count), and what we hold other nodes to, so that
whoever has the cluster key can make us drop his message but never fill our memory.

What follows for reading, one packet or stream at a time, with `bytes` received and expanded together:

                        bytes            parts, entries  memory while it is read      work, in lines of Python
    a datagram          64 Ki + 64 Ki    512             6 MiB                        8 a byte, 128 a part
    a stream            limit + limit    8192            7 times the limit, 4 MiB     8 a byte, 128 an entry
    held until whole    limit            -               the blob, and an eighth      a few a piece

Memory: 4 MiB of a datagram's is msgpack, which makes room for the MAX_BYTE_ARRAY values of an array when it meets its
header, 1024 levels deep; the rest is a copy of the bytes for each layer, and a reason for each part dropped. Work: the
dearest bytes are LZW codes, of 9 bits at least; hence COMPRESSED_SHARE. The limit of a stream is its reader's: swim
sets two MiB for 1000 peers, and bounds how many streams wait, and how many bytes in them (exchanges.py).
"""

from typing import Final

# --- what every node speaks

VSN: Final = bytes([1, 5, 2, 0, 0, 0])
"""PMin, PMax, PCur, DMin, DMax, DCur as every known memberlist sends them; any other breaks push/pull for all."""

VSN_SIZE: Final = 6
"""Go peers index all six bytes of a Vsn without looking at its length first."""

NONCE_SIZE: Final = 12
"""AES-GCM's nonce, in clear behind the encryption version byte."""

# --- what a datagram holds

UDP_BUFFER_SIZE: Final = 1400
"""memberlist's packing budget: below every MTU met between clouds."""

MAX_DATAGRAM: Final = 65536
"""memberlist's read size; UDP itself ends a little earlier."""

COMPOUND_HEADER: Final = 2
"""Bytes of a compound before its parts' lengths: type and count."""

COMPOUND_PART: Final = 2
"""Bytes each part of a compound costs besides itself: its uint16 length."""

SEAL_OVERHEAD: Final = 29
"""Encryption version, nonce and GCM tag around a plaintext (version 1, no padding)."""

CRC_OVERHEAD: Final = 5
"""Type byte and CRC-32 in front of a packet's plaintext."""

MAX_COMPOUND_PARTS: Final = 127
"""What we send. memberlist before 0.2.4 computes twice the count in 8 bits and mis-parses more; we read up to 255."""

MAX_PART: Final = 65535
"""A part's length is a uint16; memberlist does not check it and corrupts the compound."""

# --- what we accept in a message

MAX_META: Final = 512
"""memberlist's MetaMaxSize, which a Go sender panics beyond: an alive must fit one datagram."""

MAX_RECEIVED_META: Final = 512
"""memberlist stores and re-gossips up to 64 KiB of a stranger's metadata; no honest sender exceeds MAX_META."""

MAX_NAME: Final = 255
"""Bytes of a node name: longer than any host name, short enough that a flood of names stays small."""

MAX_ERROR_TEXT: Final = 1024
"""Bytes of the text in an err reply; it is only ever logged."""

MAX_STRUCT_FIELDS: Final = 64
"""Fields of one struct. The longest known has 8; the rest is room for fields that later versions add."""

MAX_BYTE_ARRAY: Final = 512
"""Bytes spelt as an array of integers, which Go decoders accept: enough for metadata, and a small allocation."""

# --- what we accept in a packet

MAX_NESTING: Final = 3
"""Layers of compress and compound around a message. Go makes two; each further one multiplies a bomb."""

MAX_DECOMPRESSED_PACKET: Final = 64 * 1024
"""All that one datagram's compress layers may expand to together. LZW reaches 1240:1, Go sends 1400 bytes."""

MAX_PACKET_PARTS: Final = 512
"""All messages and wrappers in one datagram together: two full compounds. 1400 bytes hold at most 120."""

COMPRESSED_SHARE: Final = 2
"""A compress layer's code stream may be this part of what may come out, or shorter: codes cost more than other bytes.
A full exchange of 2000 members takes a quarter of it; Go's datagrams are far shorter."""

# --- what we accept in a stream

MAX_STREAM_BLOB: Final = 20 * 1024 * 1024
"""memberlist's limit on the sealed blob of a stream; it is buffered before its tag can be checked."""

MAX_DECOMPRESSED_STREAM: Final = 20 * 1024 * 1024
"""What a stream's compress layer may expand to; memberlist sets none or 40 MiB."""

MAX_PUSH_PULL_NODES: Final = 8192
"""Entries of one push/pull: the 8000 members that swim keeps at most, and some; memberlist sets none or 2**20."""

MAX_USER_STATE: Final = 1024 * 1024
"""The opaque state after a push/pull's nodes: words of ours, far fewer, or an application's, consumed and ignored."""

MAX_WORDS: Final = 96
"""Words of ours together that we read, 262 bytes each at most where we wrote them. But who is asked tells of its
tunnels in longer ones: 16, where it has 4000."""

MAX_FORGOTTEN: Final = 64
"""Words to forget a member that we carry: each is an operator's command, a day ago or less."""

MAX_HANDSHAKES: Final = 252
"""Tunnels that one word tells of: so many with the longest names fill the length of a word."""

# --- how we send

STREAM_COMPRESS_ABOVE: Final = 1024
"""Bytes of a stream message above which compressing costs less than sending; compressing is optional for senders."""
