"""Overlay addresses: a node's address is a function of its name, so that nobody has to hand addresses out.

Attempt 0 is the original's hash: FNV-1a-128 over the name, whose last bits replace the host bits of the net.
Two names may meet on one address; the loser then counts its attempt up, which hashes other bytes.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_ATTEMPT: Final = 15
"""Sixteen tries per name: enough for any net that is not nearly full, few enough to check each one."""

_FNV_OFFSET: Final = 0x6C62272E07BB014262B821756295C58D
_FNV_PRIME: Final = 0x0000000001000000000000000000013B
_MASK_128: Final = (1 << 128) - 1


def fnv1a_128(data: bytes, state: int = _FNV_OFFSET) -> int:
    """FNV-1a with 128 bits, as an integer; `state` continues an earlier digest."""
    for byte in data:
        state = ((state ^ byte) * _FNV_PRIME) & _MASK_128
    return state


def derive(net: Network, name: bytes, attempt: int) -> Address:
    """The address of `name` in `net` on its `attempt`-th try (0 to 15), name bytes as the kernel gave them.

    For attempt k >= 1 the hash runs on over 0x00 and k: a name holds no NUL, so no two names share an attempt.
    """
    return _place(net, _digest(fnv1a_128(name), attempt))


def is_derived(net: Network, name: bytes, address: Address) -> bool:
    """Whether `address` is one of the sixteen that `name` may have in `net`."""
    digest = fnv1a_128(name)
    return any(_place(net, _digest(digest, attempt)) == address for attempt in range(MAX_ATTEMPT + 1))


def is_edge(net: Network, address: Address) -> bool:
    """Whether `address` is the first or last of `net`: legal in an overlay, but refused by much software."""
    return address in (net.network_address, net.broadcast_address) and net.num_addresses > 2


def _digest(name_digest: int, attempt: int) -> int:
    return fnv1a_128(bytes((0, attempt)), name_digest) if attempt else name_digest


def _place(net: Network, digest: int) -> Address:
    host_bits = net.max_prefixlen - net.prefixlen
    return net.network_address + (digest & ((1 << host_bits) - 1))
