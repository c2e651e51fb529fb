"""Mesh members that an honest agent would never be: real nodes that gossip with the cluster key and say what they like.

Run inside the lab by its source text, with one JSON argument: the cluster key, whom to join, and the members.
"""

import asyncio
import json
import secrets
import sys
from ipaddress import ip_address
from random import Random

from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.gossip import Gossip, bind
from wesher.swim.config import SwimConfig
from wesher.swim.io import Endpoint
from wesher.swim.node import Identity, Node
from wesher.wire.keyring import Keyring


async def main() -> None:
    """Be all the members of the argument until killed."""
    plan = json.loads(sys.argv[1])
    own = ip_address(plan["address"])
    target = Endpoint(ip_address(plan["join"]), 7946)
    for number, member in enumerate(plan["members"]):
        port = 17000 + number
        node = Node(
            SwimConfig.lan(),
            Keyring([bytes.fromhex(plan["key"])]),
            Identity(member["name"], own.packed, port),
            meta=bytes.fromhex(member["meta"]),
            incarnation=seconds_since_2020(),
            now=monotonic(),
            seconds_since_2020=seconds_since_2020(),
            rng=Random(secrets.randbits(64)),
            nonce=lambda: secrets.token_bytes(12),
        )
        gossip = Gossip(node, *bind(own, port), on_event=lambda _: None)
        node.join([target], monotonic())
        await gossip.start()
    await asyncio.Event().wait()


asyncio.run(main())
