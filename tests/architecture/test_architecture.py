"""The import graph is the architecture: layers point one way, the core touches no I/O, libraries have one home each."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

Graph = Mapping[str, Set[str]]

LAYERS = (  # each may import only its own and what stands above it; of privhelper, what both halves share
    (
        "privhelper.addressing",
        "privhelper.protocol",
        "privhelper.policy",
        "privhelper.log_levels",
        "privhelper.options",
        "privhelper.sandbox",
        "privhelper.signals",
        "privhelper.notify",
        "privhelper.logs",
    ),
    ("wesher.bounded_json",),
    ("wesher.wire",),
    ("wesher.swim",),
    ("wesher.mesh",),
    ("wesher.config",),
    ("wesher.runtime",),
    (
        "wesher.control_client",
        "wesher.health",
        "wesher.key_file",
        "wesher.option_type",
        "wesher.show",
        "wesher.plan",
        "wesher.check",
        "wesher.graph",
        "wesher.commands",
        "wesher.cli",
        "wesher.__main__",
    ),
)
CORE_WITHOUT_HELPER = ("wesher.wire", "wesher.swim")  # usable without any of privhelper
PURE = (
    "wesher.wire",
    "wesher.swim",
    "wesher.mesh",
    "wesher.config",
    "wesher.health",
    "wesher.graph",
    "wesher.bounded_json",
    "privhelper.addressing",
    "privhelper.protocol",
    "privhelper.policy",
    "privhelper.options",
    "privhelper.log_levels",
    "privhelper.device",
    "privhelper.ground",
    "privhelper.monitor",
    "privhelper.refusals",
    "privhelper.tunnels",
)
SHARED = {  # what of the helper the daemon's parts may import; whoever is not named here: nothing
    "wesher.mesh": {"addressing", "policy", "protocol"},
    "wesher.health": {"policy"},
    "wesher.config": {"options"},
    "wesher.option_type": {"options"},
    "wesher.runtime": {
        "addressing",
        "landlock",
        "lockdown",
        "logs",
        "notify",
        "policy",
        "profiles",
        "protocol",
        "signals",
    },
    "wesher.plan": {"identity", "launch", "options", "sandbox", "spawn"},
    "wesher.check": {
        "addressing",
        "handover",
        "hosts",
        "identity",
        "lockdown",
        "options",
        "policy",
        "refusals",
        "sandbox",
        "spawn",
        "survey",
        "wireguard_go",
    },
    "wesher.cli": {"launch", "options", "spawn"},
}
WORLD = frozenset(  # whoever imports one of these can reach a clock, a file, a socket, chance or another process
    "asyncio ctypes datetime fcntl http importlib io multiprocessing os pathlib random secrets select selectors shutil "
    "signal socket ssl stat subprocess sys tempfile threading time urllib pyroute2 prctl pyseccomp landlockpy nacl h11 "
    "click ifaddr".split()
)
HOMES = {  # a library, and the only modules that may import it
    "pyroute2": {"privhelper.kernel", "privhelper.link"},
    "prctl": {"privhelper.sandbox"},
    "ctypes": {"privhelper.sandbox", "privhelper.sonames"},
    "pyseccomp": {"privhelper.seccomp"},
    "landlockpy": {"privhelper.landlock"},
    "nacl": {"privhelper.kernel", "privhelper.userspace"},
    "cryptography": {"wesher.wire.keyring"},
    "msgpack": {"wesher.wire.structs", "wesher.wire.codec"},
    "h11": {"wesher.runtime.control"},
    "ifaddr": {"wesher.runtime.bind_addr"},
    "click": {"wesher.asking", "wesher.cli", "wesher.commands", "wesher.key_commands", "wesher.option_type"},
    "asyncio": {"wesher.runtime"},
    "pwd": {"privhelper.identity"},
    "subprocess": {"privhelper.wireguard_go", "wesher.check.apart"},
    "shutil": {"privhelper.wireguard_go"},
}
REACH = {  # who of the helper touches the world by what; all but the pure ones may use `os`
    "socket": {"__main__", "arguments", "door", "kernel", "launch", "link", "notify", "profiles", "server", "userspace",
               "watch", "wireguard_go"},
    "time": {"__main__", "hosts", "lockdown", "logs", "notify", "server", "userspace"},
    "signal": {"leash", "sandbox", "server", "signals"},
    "selectors": {"logpipe", "server"},
    "fcntl": {"hosts", "inherited", "leash", "profiles", "spawn", "wireguard_go"},
}  # fmt: skip
LAUNCHERS = {
    f"privhelper.{name}" for name in ("launch", "survey", "spawn", "handover", "wireguard_go", "logpipe", "leash")
}
"""What prepares and starts processes, as root; the running helper has none of it in its memory."""
HELPER_MAY_IMPORT = frozenset(  # besides itself; a longer list is a decision, not an accident
    "__future__ argparse base64 collections contextlib ctypes dataclasses enum errno fcntl ipaddress json landlockpy "
    "logging os prctl pwd pyroute2 pyseccomp nacl re resource selectors shutil signal socket stat struct subprocess "
    "sys termios time traceback typing".split()
)


def imports(source: str) -> Iterator[str]:
    """Modules imported by a source text, type-checking blocks left out: those do not exist at run time."""
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph() -> dict[str, set[str]]:
    """Every module of the product and what it imports; names imported from a module count only if they are modules."""
    paths = [path for package in ("wesher", "privhelper") for path in (ROOT / package).rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        targets = set(imports(path.read_text()))
        own = {target for target in targets if target.split(".")[0] in ("wesher", "privhelper")}
        found[name] = {target for target in own if target in names} | (targets - own)
    return found


def under(name: str, roots: tuple[str, ...] | Set[str]) -> bool:
    """Whether the module is one of the roots, or inside one."""
    return any(name == root or name.startswith(root + ".") for root in roots)


def closure(name: str, modules: Graph) -> set[str]:
    """The module, and every module of ours that importing it brings along."""
    seen: set[str] = set()
    pending = [name]
    while pending:
        module = pending.pop()
        if module not in seen and module in modules:
            seen.add(module)
            pending += modules[module]
    return seen


def layer(name: str) -> int | None:
    """The index of the module's layer."""
    return next((index for index, roots in enumerate(LAYERS) if under(name, roots)), None)


def wrong_directions(modules: Graph) -> set[tuple[str, str]]:
    """Imports that point down the layers."""
    pairs = {(name, target) for name, targets in modules.items() for target in targets}
    return {(n, t) for n, t in pairs if (a := layer(n)) is not None and (b := layer(t)) is not None and b > a}


def impurities(modules: Graph) -> set[tuple[str, str]]:
    """Pure modules, and what of the world they reach, however far away."""
    return {
        (name, target)
        for name in modules
        if under(name, PURE)
        for module in closure(name, modules)
        for target in modules[module]
        if target.split(".")[0] in WORLD
    }


def cycles(modules: Graph) -> set[str]:
    """Modules that import themselves by some way round."""
    return {name for name, targets in modules.items() if any(name in closure(t, modules) for t in targets if t != name)}


def strangers_at_home(modules: Graph) -> set[tuple[str, str]]:
    """Libraries imported elsewhere than in their home."""
    return {
        (name, target)
        for name, targets in modules.items()
        for target in targets
        if (home := HOMES.get(target.split(".")[0])) is not None and not under(name, home)
    }


def trespasses(modules: Graph) -> set[tuple[str, str]]:
    """Imports by which the daemon takes more of the helper than is shared with it."""
    return {
        (name, target)
        for name, targets in modules.items()
        if under(name, {"wesher"})
        for target in targets
        if under(target, {"privhelper"}) and target.partition(".")[2].partition(".")[0] not in _shared_with(name) | {""}
    }


def _shared_with(name: str) -> set[str]:
    return next((shared for root, shared in SHARED.items() if under(name, {root})), set())


def test_layers_point_one_way() -> None:
    """Nothing calls backwards."""
    assert wrong_directions(graph()) == set()


def test_the_helper_never_imports_the_daemon() -> None:
    """What is privileged does not run a line of what faces the network."""
    modules = graph()

    assert {n for n in modules if under(n, {"privhelper"}) and any(under(t, {"wesher"}) for t in modules[n])} == set()


def test_wire_and_swim_need_nothing_of_the_helper() -> None:
    """They could be a library of their own."""
    modules = graph()

    reached = {t for n in modules if under(n, CORE_WITHOUT_HELPER) for t in closure(n, modules)}
    assert {target for target in reached if under(target, {"privhelper"})} == set()


def test_pure_modules_reach_no_clock_socket_file_or_chance() -> None:
    """The core is handed time, randomness and bytes, also by what it imports."""
    assert impurities(graph()) == set()


def test_the_daemon_imports_of_the_helper_what_is_shared_and_no_more() -> None:
    """Its launcher is for the command line; its device, link and hosts file are for nobody."""
    assert trespasses(graph()) == set()


def test_the_world_is_touched_where_it_says() -> None:
    """A clock or a socket in one more module of the privileged process is a decision."""
    modules = graph()

    found = {
        what: {
            n.removeprefix("privhelper.")
            for n, targets in modules.items()
            if under(n, {"privhelper"}) and what in targets
        }
        for what in REACH
    }
    assert found == REACH


def test_libraries_have_one_home() -> None:
    """Each could be replaced by editing one place."""
    assert strangers_at_home(graph()) == set()


def test_there_are_no_cycles() -> None:
    """If two modules must know each other, a third is missing."""
    assert cycles(graph()) == set()


def test_only_the_command_line_imports_the_launcher() -> None:
    """Starting processes is nobody else's business: one makes the plan, one carries it out."""
    modules = graph()

    assert {n for n, targets in modules.items() if "privhelper.launch" in targets} == {"wesher.cli", "wesher.plan"}


def test_the_helper_imports_only_what_is_listed() -> None:
    """A new module in the privileged process is a decision."""
    modules = graph()
    found = {t.split(".")[0] for n, targets in modules.items() if under(n, {"privhelper"}) for t in targets}

    assert found - HELPER_MAY_IMPORT - {"privhelper"} == set()
    assert found >= HELPER_MAY_IMPORT  # nothing stands on the list for nothing


def test_the_running_helper_never_loads_the_launchers_means() -> None:
    """What starts programs is not even imported by the process that keeps CAP_NET_ADMIN."""
    modules = graph()

    running = closure("privhelper.__main__", modules)
    assert running & LAUNCHERS == set()
    assert set(modules) >= LAUNCHERS
    assert {t for n in running for t in modules[n] if t in {"shutil", "subprocess"}} == set()


def test_the_checks_themselves_can_fail() -> None:
    """Each check finds its kind of fault in a made-up graph."""
    assert wrong_directions({"wesher.wire.codec": {"wesher.swim.node"}})
    assert impurities({"wesher.swim.node": {"wesher.swim.helper"}, "wesher.swim.helper": {"time"}})
    assert cycles({"a": {"b"}, "b": {"a"}})
    assert strangers_at_home({"wesher.mesh.desired": {"cryptography.hazmat"}})
    assert trespasses({"wesher.runtime.agent": {"privhelper.link"}})
    assert trespasses({"wesher.commands": {"privhelper.launch.launch"}})
    assert not trespasses({"wesher.runtime.agent": {"privhelper", "privhelper.protocol"}})
    assert set(imports("if TYPE_CHECKING:\n    import os\nelse:\n    import time\nfrom socket import socket")) == {
        "time",
        "socket",
        "socket.socket",
    }


def test_everything_imported_is_declared() -> None:
    """Nothing comes along only because some other package happens to bring it."""
    declared = set("click cryptography h11 ifaddr landlockpy msgpack nacl pyroute2 pyseccomp prctl".split())
    found = {target.split(".")[0] for targets in graph().values() for target in targets}

    assert found - set(sys.stdlib_module_names) - {"wesher", "privhelper"} == declared


def test_every_test_that_the_documents_name_exists() -> None:
    """A table that points to a test is a claim about it."""
    text = "".join(path.read_text() for path in sorted((*ROOT.glob("*.md"), *ROOT.glob("security/*.md"))))
    named = set(re.findall(r"`(?:tests/)?([\w/]+\.py)::(test_\w+)`", text))
    assert len(named) > 50
    missing = {(path, name) for path, name in named if f"def {name}(" not in (ROOT / "tests" / path).read_text()}
    assert missing == set()
