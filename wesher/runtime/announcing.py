"""What this node says about itself in gossip: address, WireGuard key, claim, cluster keys, in the form others read.

Each changes by itself, and all of them are one announcement. The form is for the Go members (mesh/meta_form.py), which
come in crowds: it is looked at once for all the events of one exchange, since each look is at every member.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from wesher.mesh.meta_form import FormChoice
from wesher.mesh.node_meta import MAX_KEYS, MetaForm, NodeMeta, encode
from wesher.runtime.clock import monotonic
from wesher.runtime.standing import Standing
from wesher.swim.node import Node

log = logging.getLogger("agent")


def own_meta(standing: Standing, form: MetaForm, keys: Sequence[bytes]) -> bytes:
    """With as many of the fingerprints `keys` as there is room for: what seals, and what is coming, are the first."""
    return encode(NodeMeta(standing.address, standing.pinned.public_key, form, standing.claim, tuple(keys[:MAX_KEYS])))


class Announcing:
    """Announces `node` as it stands; `meta` makes its metadata in a form, `settle` sends what it has to say.

    `keep` is called when the state file is to have another form.
    """

    def __init__(
        self,
        node: Node,
        form: FormChoice,
        meta: Callable[[MetaForm], bytes],
        settle: Callable[[], None],
        keep: Callable[[], None],
    ) -> None:
        self._node = node
        self._form = form
        self._meta = meta
        self._settle = settle
        self._keep = keep
        self._due: asyncio.TimerHandle | None = None
        self._is_soon = False

    @property
    def form(self) -> MetaForm:
        """The one in use."""
        return self._form.current

    def announce(self) -> None:
        """Something of it has changed."""
        self._node.update_meta(self._meta(self._form.current), monotonic())
        self._settle()

    def changed(self) -> None:
        """Somebody has come, gone, or says something else about itself."""
        if not self._is_soon:
            self._is_soon = True
            asyncio.get_running_loop().call_soon(self._choose)

    def _choose(self) -> None:
        """Take the form that this mesh's Go members read, now or when they have been so for a while."""
        self._is_soon = False
        before = self._form.asked_for
        changed = self._form.observe(self._node.members(), monotonic())
        if before is not self._form.asked_for:
            self._keep()
        if changed:
            log.info("announcing metadata in the form of Go wesher %s", self._form.current.value)
            self.announce()
        if self._due is not None:
            self._due.cancel()
        at = self._form.next_change()
        if at is not None:
            self._due = asyncio.get_running_loop().call_later(max(0.0, at - monotonic()), self._choose)
