"""A member of a large cluster: it answers, and knows of as many others as it is told to, none of whom does.

Run inside the lab by its source text; the argument is a file with JSON: cluster key, own name, address and metadata,
and the members', too long for a command line. It never finds out that they are silent: it does not look so soon.
"""

import asyncio
import json
import secrets
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import Random

from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.gossip import Gossip, bind
from wesher.swim.config import SwimConfig
from wesher.swim.io import Endpoint
from wesher.swim.node import Identity, Node
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.limits import VSN
from wesher.wire.messages import Alive
from wesher.wire.packet import seal_packet

PORT = 7946


async def main() -> None:
    """Be the member until killed."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    own = ip_address(plan["address"])
    keyring = Keyring([bytes.fromhex(plan["key"])])
    node = Node(
        replace(SwimConfig.wan(), probe_interval=3600.0, push_pull_interval=3600.0),
        keyring,
        Identity(plan["name"], own.packed, PORT),
        meta=bytes.fromhex(plan["meta"]),
        incarnation=seconds_since_2020(),
        now=monotonic(),
        seconds_since_2020=seconds_since_2020(),
        rng=Random(secrets.randbits(64)),
        nonce=lambda: secrets.token_bytes(12),
    )
    for member in plan["members"]:
        address, meta = ip_address(member["address"]).packed, bytes.fromhex(member["meta"])
        news = Alive(seconds_since_2020(), member["name"], address, PORT, meta, VSN)
        packet = seal_packet([encode(news)], keyring, secrets.token_bytes(12))
        node.receive_datagram(packet, Endpoint(own, PORT), monotonic())
    gossip = Gossip(node, *bind(own, PORT), on_event=lambda _: None)
    await gossip.start()
    await asyncio.Event().wait()


asyncio.run(main())
