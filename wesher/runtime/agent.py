"""The agent's process: `python -I -m wesher.runtime.agent`, started with nothing to its name.

descriptors   0 null, 1 and 2 its output, 3 the helper, 4 the configuration (read and closed at once)
order         open everything, confine, start the one worker thread, then read the helper's first byte
exit status   0 after leaving or detaching, 1 after an error, 2 where options contradict the helper's; one line each
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, NoReturn

from privhelper import logs
from privhelper.lockdown import Lockdown, NoSandbox
from privhelper.notify import Notify
from wesher.config import AgentConfig
from wesher.mesh.saved_state import SavedState
from wesher.runtime.composition import Agent
from wesher.runtime.confinement import lock_down
from wesher.runtime.control import ControlServer
from wesher.runtime.following import AddressGone
from wesher.runtime.gossip import bind
from wesher.runtime.helper_client import HelperClient, HelperGone
from wesher.runtime.standing import Refused, Standing, greet
from wesher.runtime.state_at_start import StartError, keep_state, read_state
from wesher.runtime.state_file import StateFile
from wesher.runtime.stop import Stop

HELPER_FD: Final = 3
CONFIG_FD: Final = 4

log = logging.getLogger("agent")


def main() -> NoReturn:
    """Read the configuration, run, and say in one line why not."""
    config = _read_config()
    logs.configure(config.log_level, config.log_format)
    asyncio.run(_to_the_end(config))
    raise AssertionError("unreachable")


def _read_config() -> AgentConfig:
    with os.fdopen(CONFIG_FD, "rb") as file:
        return AgentConfig.from_json(file.read())


async def _to_the_end(config: AgentConfig) -> NoReturn:
    """Not back to asyncio.run, which would start a thread to shut the worker down: none can be started any more."""
    status = 1
    try:
        status = await _run(config)
    except (StartError, NoSandbox, Refused) as error:
        print(f"wesher: error: {error}", file=sys.stderr, flush=True)
        status = 2 if isinstance(error, Refused) and error.usage else 1
    except (HelperGone, AddressGone) as error:
        log.error("stopping: %s", error)
    except Exception:
        log.exception("stopping")
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


async def _run(config: AgentConfig) -> int:
    """Everything that needs opening, then lockdown, then the other half's first byte."""
    lockdown = Lockdown(config.sandbox)
    connection = socket.socket(fileno=HELPER_FD)
    notify = Notify(os.environ)
    for name in Notify.VARIABLES:
        os.environ.pop(name, None)
    sockets = _bind(config)
    control = ControlServer(f"{config.runtime_dir}/{config.interface}.sock", {})
    try:
        listener = control.listen()
    except OSError as error:
        raise StartError(f"control socket in {config.runtime_dir} cannot be made: {error.strerror}") from None
    stop = Stop()
    try:
        lock_down(lockdown, config)
        if config.split and lockdown.remark is not None:  # else the helper says it
            log.warning("%s", lockdown.remark)
        helper = HelperClient(connection, stop.on_helper_event)
        await control.start(listener)
        file = StateFile(config.state_file)
        saved = read_state(config, file)
        standing = await _greeted(config, saved, helper, stop)
        if standing is None:
            return 0
        agent = Agent(config, file, keep_state(config, file, saved), helper, standing, stop, notify, sockets)
        helper.on_event = agent.on_helper_event
        control.routes.update(agent.served.routes())
        control.commands.update(agent.served.commands())
        return await agent.run()
    finally:
        await control.finish()
        control.stop()


async def _greeted(config: AgentConfig, saved: SavedState, helper: HelperClient, stop: Stop) -> Standing | None:
    """The helper's greeting; None where a signal of our own comes before our turn: there is nothing to leave yet."""
    greeting = asyncio.create_task(greet(config, saved, helper))
    asked = asyncio.create_task(stop.asked.wait())
    await asyncio.wait((greeting, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if config.split and not greeting.done() and not stop.by_helper.is_set():
        greeting.cancel()
        return None
    return await greeting


def _bind(config: AgentConfig) -> tuple[socket.socket, socket.socket]:
    try:
        return bind(ip_address(config.bind_addr), config.cluster_port)
    except OSError as error:
        raise StartError(
            f"cannot bind {config.bind_addr} port {config.cluster_port}: {error.strerror}; "
            "give another --bind-addr or --cluster-port"
        ) from None


if __name__ == "__main__":
    main()
