"""The import graph is the architecture: layers point one way, the core touches no I/O, libraries have one home each."""

import ast
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

Graph = Mapping[str, Set[str]]

LAYERS = (  # each may import only its own and what stands above it; modules of privhelper not named here are below all
    ("privhelper.addressing", "privhelper.protocol", "privhelper.policy", "privhelper.options", "privhelper.sandbox"),
    ("wesher.wire",),
    ("wesher.swim",),
    ("wesher.mesh",),
    ("wesher.config",),
    ("wesher.runtime",),
    ("wesher.control_client", "wesher.show", "wesher.cli", "wesher.__main__"),
)
CORE_WITHOUT_HELPER = ("wesher.wire", "wesher.swim")  # usable without any of privhelper
PURE = (
    "wesher.wire",
    "wesher.swim",
    "wesher.mesh",
    "wesher.config",
    "privhelper.addressing",
    "privhelper.protocol",
    "privhelper.policy",
    "privhelper.options",
    "privhelper.device",
    "privhelper.monitor",
)
WORLD = frozenset(  # whoever imports one of these can reach a clock, a file, a socket, chance or another process
    "asyncio ctypes datetime fcntl http importlib io multiprocessing os pathlib random secrets select selectors shutil "
    "signal socket ssl stat subprocess sys tempfile threading time urllib pyroute2 prctl nacl h11 click ifaddr".split()
)
HOMES = {  # a library, and the only modules that may import it
    "pyroute2": {"privhelper.link"},
    "prctl": {"privhelper.sandbox"},
    "ctypes": {"privhelper.sandbox"},
    "nacl": {"privhelper.userspace"},
    "cryptography": {"wesher.wire.keyring"},
    "msgpack": {"wesher.wire.structs", "wesher.wire.codec"},
    "h11": {"wesher.runtime.control"},
    "ifaddr": {"wesher.runtime.bind_addr"},
    "click": {"wesher.cli"},
    "asyncio": {"wesher.runtime"},
}
HELPER_MAY_IMPORT = frozenset(  # besides itself; a longer list is a decision, not an accident
    "__future__ argparse collections contextlib ctypes dataclasses enum errno fcntl ipaddress logging os prctl "
    "pwd pyroute2 nacl re selectors shutil signal socket stat struct subprocess sys time typing".split()
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


def test_libraries_have_one_home() -> None:
    """Each could be replaced by editing one place."""
    assert strangers_at_home(graph()) == set()


def test_there_are_no_cycles() -> None:
    """If two modules must know each other, a third is missing."""
    assert cycles(graph()) == set()


def test_only_the_command_line_imports_the_launcher() -> None:
    """Starting processes is nobody else's business."""
    modules = graph()

    assert {name for name, targets in modules.items() if "privhelper.launch" in targets} == {"wesher.cli"}


def test_the_helper_imports_only_what_is_listed() -> None:
    """A new module in the privileged process is a decision."""
    modules = graph()
    found = {t.split(".")[0] for n, targets in modules.items() if under(n, {"privhelper"}) for t in targets}

    assert found - HELPER_MAY_IMPORT - {"privhelper"} == set()
    assert found >= HELPER_MAY_IMPORT  # nothing stands on the list for nothing


def test_the_running_helper_never_loads_the_launchers_means() -> None:
    """What looks users up and starts programs is not even imported by the process that keeps CAP_NET_ADMIN."""
    modules = graph()

    running = closure("privhelper.__main__", modules)
    assert "privhelper.launch" not in running
    assert {t for n in running for t in modules[n] if t in {"pwd", "shutil", "subprocess", "stat"}} == set()


def test_the_checks_themselves_can_fail() -> None:
    """Each check finds its kind of fault in a made-up graph."""
    assert wrong_directions({"wesher.wire.codec": {"wesher.swim.node"}})
    assert impurities({"wesher.swim.node": {"wesher.swim.helper"}, "wesher.swim.helper": {"time"}})
    assert cycles({"a": {"b"}, "b": {"a"}})
    assert strangers_at_home({"wesher.mesh.desired": {"cryptography.hazmat"}})
    assert set(imports("if TYPE_CHECKING:\n    import os\nelse:\n    import time\nfrom socket import socket")) == {
        "time",
        "socket",
        "socket.socket",
    }


def test_everything_imported_is_declared() -> None:
    """Nothing comes along only because some other package happens to bring it."""
    declared = {"click", "cryptography", "h11", "ifaddr", "msgpack", "nacl", "pyroute2", "prctl"}
    found = {target.split(".")[0] for targets in graph().values() for target in targets}

    assert found - set(sys.stdlib_module_names) - {"wesher", "privhelper"} == declared
