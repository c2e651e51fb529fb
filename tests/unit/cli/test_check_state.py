"""`wesher check` and what lasts: state file, cluster key, directories, and the names that the hosts file can take."""

from __future__ import annotations

import os

from tests.unit.cli.saved import KEY, NOBODY, OTHER_KEY, TEXT, save
from wesher import plan
from wesher.mesh.saved_state import MAX_SIZE, OwnClaim, SavedNode, SavedState, render

NODES = (SavedNode("node-b", "192.0.2.2", None), SavedNode("a.b", "192.0.2.3", None))
MINE = SavedState(KEY, NODES, OwnClaim("node-a", 1, 0, 1))


def test_a_saved_state_is_told_without_its_key(run, found, directory):
    """Whose it is, how many members, which; and that the key is there."""
    path = save(directory, MINE)
    text = f"{path}: the state of node-a: the cluster key, 2 members (node-b, a.b)"
    assert found("state file") == [("ok", text)]
    assert found("cluster key") == [("ok", "the saved one")]
    assert found("join") == [("ok", "nobody named: 2 saved members will be tried")]
    assert TEXT not in run()[1]


def test_a_state_of_another_name_is_warned_of(found, directory):
    """The address is derived from the name."""
    path = save(directory, SavedState(KEY, (), OwnClaim("node-z", 1, 0, 1)))
    assert found("state file")[0][0] == "ok"
    ((level, text),) = found("state file")[1:]
    assert (level, text.startswith(f"{path} is that of node-z, and this node is node-a")) == ("warning", True)


def test_a_damaged_state_is_an_error_without_a_key_and_a_warning_with_one(found, directory):
    """As a start takes it; of a newer version's file the rest is used."""
    path = save(directory, b"rubbish")
    ((level, text),) = found("state file")
    assert level == "error"
    assert text.startswith(f"state file {path}: not JSON: ")
    assert text.endswith("; give --cluster-key, or --init for a new cluster")
    key_file = directory / "key"
    key_file.write_text(TEXT)
    key_file.chmod(0o600)
    ((level, text),) = found("state file", "--cluster-key-file", str(key_file))
    assert (level, text.startswith(f"{path}: not JSON: "), text.endswith("kept aside")) == ("warning", True, True)
    save(directory, render(MINE).replace(b'"Wesher": {', b'"Wesher": {"Later": 1,'))
    assert [level for level, _ in found("state file")] == ["warning", "ok"]
    save(directory, render(MINE)[:150])
    assert [level for level, _ in found("state file")] == ["warning", "ok"]


def test_no_state_is_a_new_cluster(found, directory):
    """And so is --init, whatever there is."""
    assert found("state file") == [("ok", f"{directory}/state/wgoverlay.json is not there yet")]
    assert found("cluster key") == [("ok", "none is given or saved: a new one will be generated")]
    path = save(directory, MINE)
    assert found("state file", "--init") == [("ok", f"a new cluster, as --init says; {path} will be kept aside")]
    assert found("cluster key", "--init")[0][1].startswith("none is given or saved")


def test_a_state_that_is_too_large_to_keep_is_told_to_be_in_the_way(found, directory):
    """A start with --init would fail, any other that can would remember nothing."""
    path = save(directory, MINE)
    os.truncate(path, MAX_SIZE + 1)
    text = f"{path} is too large to keep beside a new one, and none will be written: move it away"
    assert found("state file", "--init") == [("error", text)]
    assert found("state file")[0] == ("warning", text)  # the key in it still counts


def test_joining_without_a_key_is_warned_of(found):
    """A generated one is nobody else's."""
    ((level, text),) = found("cluster key", "--join", "127.0.0.1:1")
    assert (level, "who is joined will not know a new one" in text) == ("warning", True)


def test_it_is_told_where_the_key_comes_from(found, directory):
    """A file that everybody reads, and a key that the state does not have, are warned of as well."""
    key_file = directory / "cluster-key"
    key_file.write_text(TEXT)
    key_file.chmod(0o600)
    option = ("--cluster-key-file", str(key_file))
    assert found("cluster key", *option) == [("ok", f"given in {key_file}")]
    credential = found("cluster key", env={"CREDENTIALS_DIRECTORY": str(directory)})
    assert credential == [("ok", f"given as a credential, {key_file}")]
    key_file.chmod(0o604)
    save(directory, SavedState(OTHER_KEY, (), None))
    (readable, given, another) = found("cluster key", *option)
    assert readable == ("warning", f"every user can read the cluster key in {key_file}; chmod 600 it")
    assert given == ("ok", f"given in {key_file}")
    assert another[1].startswith("the state file has another")
    key_file.write_text("c2VjcmV0")
    key_file.chmod(0o600)
    reason = "unsupported cluster key length; expected 32, got 6"
    assert found("cluster key", *option) == [("error", f"cluster key file {key_file}: {reason}")]


def test_a_directory_is_there_or_will_be_made_or_is_an_error(found, directory):
    """With the words of the start."""
    split = ("--helper-socket", "/nonexistent")  # any user may be an agent
    assert found("state directory", *split) == [("ok", f"{directory}/state will be made")]
    assert found("runtime directory", *split) == [("ok", f"{directory}/run will be made")]
    save(directory, NOBODY)
    assert found("state directory", *split) == [("ok", f"{directory}/state can be used")]
    ((level, text),) = found("state directory", *split, "--state-dir", f"{directory}/hosts")
    assert (level, text.startswith(f"directory {directory}/hosts cannot be used: Not a directory")) == ("error", True)
    ((level, text),) = found("runtime directory", *split, "--runtime-dir", f"{directory}/hosts/run")
    assert (level, "/hosts/run cannot be made: Not a directory" in text) == ("error", True)


def test_a_directory_in_the_place_of_a_file_is_in_the_way(found, directory):
    """Of the control socket a start says so and ends; of the state file's next version it would remember nothing."""
    split = ("--helper-socket", "/nonexistent")
    (directory / "run" / "wgoverlay.sock").mkdir(parents=True)
    text = f"control socket in {directory}/run cannot be made: Is a directory"
    assert found("runtime directory", *split)[-1] == ("error", text)
    (directory / "state" / "wgoverlay.json.new").mkdir(parents=True)
    start = f"{directory}/state/wgoverlay.json.new is a directory, and "
    assert found("state file")[-1] == (
        "error",
        f"{start}a new cluster key would be lost: remove it, or give a key",
    )
    save(directory, MINE)
    assert found("state file")[-1] == ("warning", f"{start}members will not be remembered: remove it")


# --- the hosts file


def test_members_without_a_line_are_named(found, directory):
    """By what the file has already, and by --hosts-suffix."""
    save(directory, SavedState(KEY, (*NODES, SavedNode("printer", "192.0.2.4", None)), None))
    can = ("ok", f"{directory}/hosts can be written")
    taken = "printer: name stands in the hosts file already"
    outside = "a.b: name lies outside --hosts-suffix"
    assert found("hosts file") == [can, ("warning", f"saved members that will have no line: {taken}")]
    suffixed = found("hosts file", "--hosts-suffix", "mesh.example")
    assert suffixed == [can, ("warning", f"saved members that will have no line: {outside}")]
    assert found("hosts file", "--no-etc-hosts") == [("ok", "not managed, as --no-etc-hosts says")]


def test_a_name_that_others_cannot_write_is_warned_of(found, directory, monkeypatch):
    """This host's own, which its own file shows nowhere."""
    for name, reason in (("a.b", "name lies outside --hosts-suffix"), ("wpad", None), ("node_a", "not a host name")):
        monkeypatch.setattr(plan.socket, "gethostname", lambda name=name: name)
        warnings = [text for level, text in found("hosts file", "--hosts-suffix", "mesh.example") if level == "warning"]
        assert [reason in text for text in warnings] == ([] if reason is None else [True])


def test_a_hosts_file_that_cannot_be_used_is_a_warning(found, directory):
    """A start would do without."""
    ((level, text),) = found("hosts file", "--hosts-file", f"{directory}/none")
    assert (level, text.startswith(f"{directory}/none cannot be opened (No such file or directory)")) == (
        "warning",
        True,
    )
    ((level, text),) = found("hosts file", "--hosts-file", str(directory))
    assert (level, "peers' names will not be written" in text) == ("warning", True)
