"""A member's metadata.

Promises: only MetaError, whose reason is one of ours; what is accepted is written as what a Go node of its form reads,
and reads as the same again.
"""

from wesher.mesh.node_meta import MAX_ENCODED, MetaError, MetaFault, decode, encode

_REASONS = {str(fault) for fault in MetaFault}


def check(data: bytes) -> None:
    """One member's."""
    try:
        meta = decode(data)
    except MetaError as error:
        assert error.reason in _REASONS
        return
    written = encode(meta)
    assert len(written) <= MAX_ENCODED
    assert decode(written) == meta
    assert encode(decode(written)) == written
