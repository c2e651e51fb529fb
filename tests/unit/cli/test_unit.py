"""What systemd would start, read from units on a disk: templates, drop-ins, files of variables, credentials."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from wesher.check.finding import Level
from wesher.check.handed import handed
from wesher.check.unit import NoUnit, Options, options_of

AGENT = """# a comment
[Unit]
Description=an agent \\
  ExecStart=/bin/false
[Service]
Environment=WESHER_INTERFACE=%i "WESHER_STATE_DIR=/var/lib/wesher %i" PATH=/bin
EnvironmentFile=-/etc/default/wesher-%i
ExecStart=-/usr/bin/wesher agent --helper-socket /run/wesher-priv/%i.sock \\
   --log-level ${LEVEL} $MORE
User=wesher-%i
LoadCredential=cluster-key:wesher-%i.key
"""
HELPER = """
[Service]
Environment=WESHER_NODE_NAME=me WESHER_MTU=1280
User=wesher-priv-%i
ExecStart=/usr/bin/wesher-privhelper
"""
VARIABLES = """
# a comment
WESHER_MTU=1400
WESHER_JOIN="a,b"
; another
LEVEL=debug
MORE=--init --mtu 1300
no assignment
"""
SOCKET = "/run/wesher-priv/wg7.sock"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A disk with the pair as templates, and an instance's variables."""
    write(tmp_path, "usr/lib/systemd/system/wesher@.service", AGENT)
    write(tmp_path, "usr/lib/systemd/system/wesher-privhelper@.service", HELPER)
    write(tmp_path, "etc/default/wesher-wg7", VARIABLES)
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    """A file, and what it stands in."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def read(root: Path, name: str = "wesher@wg7") -> Options:
    """What is to be checked."""
    return options_of(name, str(root))


def test_an_instance_is_its_template_with_its_name_and_its_files(root: Path) -> None:
    """The agent's variables win over its helper's, its files over its unit; variables stand in its command line."""
    found = read(root)
    words = ("--helper-socket", SOCKET, "--log-level", "debug", "--init", "--mtu", "1300")
    assert found.words == words
    assert found.variables == {
        "WESHER_INTERFACE": "wg7",
        "WESHER_STATE_DIR": "/var/lib/wesher wg7",
        "WESHER_NODE_NAME": "me",
        "WESHER_MTU": "1400",
        "WESHER_JOIN": "a,b",
        "WESHER_LISTEN": SOCKET,
        "WESHER_USER": "wesher-wg7:wesher-priv-wg7",
    }
    assert read(root, "wesher@wg7.service") == found


def test_a_drop_in_changes_what_it_names(root: Path) -> None:
    """By name of file; of one name the first directory counts; an empty value takes away all before it."""
    write(root, "usr/lib/systemd/system/wesher@.service.d/20.conf", "[Service]\nEnvironment=WESHER_PROFILE=lan\n")
    write(root, "etc/systemd/system/wesher@.service.d/20.conf", "[Service]\nEnvironment=WESHER_PROFILE=wan\n")
    write(root, "etc/systemd/system/wesher@wg7.service.d/10.conf", "[Service]\nEnvironment=\nEnvironmentFile=\n")
    write(root, "etc/systemd/system/wesher@wg7.service.d/no", "[Service]\nEnvironment=WESHER_PROFILE=no\n")
    found = read(root)
    assert found.variables["WESHER_PROFILE"] == "wan"
    assert not {"WESHER_INTERFACE", "WESHER_JOIN"} & found.variables.keys()
    assert found.words == ("--helper-socket", SOCKET, "--log-level", "")


def test_a_credential_is_the_key_where_no_other_is_given(root: Path) -> None:
    """As the daemon takes it: the last of all."""
    write(root, "etc/credstore/wesher-wg7.key", "key")
    assert read(root).variables["WESHER_CLUSTER_KEY_FILE"] == f"{root}/etc/credstore/wesher-wg7.key"
    write(root, "etc/default/wesher-wg7", "WESHER_CLUSTER_KEY=other\n")
    assert "WESHER_CLUSTER_KEY_FILE" not in read(root).variables


def test_a_unit_without_a_helper_is_the_launchers(root: Path) -> None:
    """And who starts it is root."""
    write(root, "etc/systemd/system/wesher-launcher.service", "[Service]\nExecStart=/usr/bin/wesher --init\n")
    assert read(root, "wesher-launcher") == Options(("--init",), {}, is_launcher=True)


PAIR = {"WESHER_LISTEN": "/run/wesher-priv/wgoverlay.sock", "WESHER_USER": "wesher:wesher-priv"}
LAUNCHED = {
    "WESHER_INTERFACE": "lab",
    "WESHER_STATE_DIR": "/var/lib/wesher-lab",
    "WESHER_RUNTIME_DIR": "/run/wesher-lab",
    "WESHER_USER": "wesher-lab:wesher-priv-lab",
}


@pytest.mark.parametrize(
    ("name", "words", "variables"),
    [
        ("wesher", ("--helper-socket", "/run/wesher-priv/wgoverlay.sock"), PAIR),
        ("wesher-launcher", (), {}),
        (
            "wesher@lab",
            ("--helper-socket", "/run/wesher-priv/lab.sock"),
            {**LAUNCHED, "WESHER_LISTEN": "/run/wesher-priv/lab.sock"},
        ),
        ("wesher-launcher@lab", (), LAUNCHED),
    ],
)
def test_the_units_that_are_shipped_are_understood(
    tmp_path: Path, name: str, words: tuple[str, ...], variables: dict[str, str]
) -> None:
    """Each with its options, its key where there is one, and the drop-in for another."""
    shipped = Path(__file__).parents[3] / "dist" / "systemd"
    shutil.copytree(shipped, tmp_path / "usr/lib/systemd/system")
    file = "wesher-lab" if "@" in name else "wesher"
    write(tmp_path, f"etc/default/{file}", (shipped / "default").read_text())
    found = read(tmp_path, name)
    assert (found.words, found.variables) == (words, variables)
    assert found.opened == (() if found.is_launcher else (f"{tmp_path}/etc/hosts",))
    assert found.has_no_devices
    write(tmp_path, f"etc/default/{file}", "WESHER_JOIN=a\n")
    write(tmp_path, f"etc/credstore/{file}.cluster-key", "key")
    key = {"WESHER_CLUSTER_KEY_FILE": f"{tmp_path}/etc/credstore/{file}.cluster-key"}
    assert read(tmp_path, name).variables == {**variables, **key, "WESHER_JOIN": "a"}
    template = f"{name.partition('@')[0]}@" if "@" in name else name
    drop_in = (shipped / "drop-ins" / "key-file.conf").read_text()
    write(tmp_path, f"etc/systemd/system/{template}.service.d/key-file.conf", drop_in)
    assert "WESHER_CLUSTER_KEY_FILE" not in read(tmp_path, name).variables
    write(tmp_path, "etc/wesher/cluster-key", "key")
    assert read(tmp_path, name).variables["WESHER_CLUSTER_KEY_FILE"] == f"{tmp_path}/etc/wesher/cluster-key"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: (root / "usr/lib/systemd/system/wesher@.service").unlink(), "no unit wesher@wg7.service is "),
        (
            lambda root: (root / "usr/lib/systemd/system/wesher-privhelper@.service").unlink(),
            "no unit wesher-privhelper@wg7.service is ",
        ),
        (
            lambda root: write(
                root, "etc/systemd/system/wesher@.service.d/1.conf", "[Service]\nEnvironmentFile=/etc/none\n"
            ),
            "/etc/none cannot be read: No such file or directory; ",
        ),
    ],
)
def test_what_is_missing_is_named(root: Path, spoil, reason: str) -> None:
    """In one line."""
    spoil(root)
    with pytest.raises(NoUnit) as caught:
        read(root)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_systemd_cannot_open_for_the_helper_is_an_error(root: Path) -> None:
    """The helper is never started then; one that is missing systemd makes."""
    write(root, "etc/systemd/system/wesher-privhelper@.service.d/1.conf", "[Service]\nStandardInput=file:/etc/hosts\n")
    assert list(handed(read(root), lambda: True)) == []
    (root / "etc/hosts").mkdir()  # as an engine makes one where the source of a mount is missing
    (found,) = handed(read(root), lambda: True)
    assert (found.level, found.what) == (Level.ERROR, "unit")
    assert found.text.startswith(
        f"{root}/etc/hosts cannot be opened (Is a directory), and systemd hands it to the helper"
    )
    write(root, "etc/systemd/system/wesher-privhelper@.service.d/2.conf", "[Service]\nStandardInput=null\n")
    assert list(handed(read(root), lambda: True)) == []


@pytest.mark.parametrize(
    ("unit", "kernels", "is_closed"),
    [
        ("PrivateDevices=yes", False, True),
        ("PrivateDevices=yes", True, False),
        ("PrivateDevices=yes", None, False),
        ("PrivateDevices=no", False, False),
        ("PrivateDevices=yes\nEnvironment=WESHER_WIREGUARD=userspace", True, True),
        ("PrivateDevices=yes\nEnvironment=WESHER_WIREGUARD=kernel", False, False),
    ],
)
def test_a_launcher_that_needs_a_device_which_its_unit_closes_is_told_so(
    root: Path, unit: str, kernels: bool | None, is_closed: bool
) -> None:
    """What can be opened outside the unit cannot within it."""
    write(root, "etc/systemd/system/wesher-launcher.service", f"[Service]\nExecStart=/usr/bin/wesher\n{unit}\n")
    texts = [found.text for found in handed(read(root, "wesher-launcher"), lambda: kernels)]
    assert ["launcher-userspace.conf" in text for text in texts] == ([True] if is_closed else [])
