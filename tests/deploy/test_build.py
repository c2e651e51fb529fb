"""dist/build.sh: the same sources make the same bytes, and what comes out can be built from again."""

from __future__ import annotations

import pytest

from tests.deploy.machine import Machine
from tests.deploy.releases import NOW, WHEELS

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]


def test_two_builds_elsewhere_and_later_are_the_same_bytes(fresh: Machine) -> None:
    """The second is made from the archive of the first, in another directory, by another user, and dates itself."""
    environment = {name: value for name, value in WHEELS.items() if name != "SOURCE_DATE_EPOCH"}
    again = "/var/tmp/again"
    fresh.good("mkdir", again)
    fresh.good("tar", "-x", "-f", f"/srv/packages/wesher-{NOW}.tar.gz", "-C", again)
    fresh.good("chown", "-R", "nobody:", again)
    somebody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    build = f"{again}/wesher-{NOW}/dist/build.sh"
    fresh.good(*somebody, build, "--output", f"{again}/out", environment=environment)
    built = sorted((fresh.written / again[1:] / "out").iterdir())
    assert 3 == len(built)
    for path in built:
        assert (fresh.srv / "packages" / path.name).read_bytes() == path.read_bytes(), path.name


def test_nothing_of_where_it_was_built_is_in_the_package(fresh: Machine) -> None:
    """No path of the build's, and no module that is compiled for a time."""
    fresh.good("sh", "-c", f"dpkg-deb -x /srv/packages/wesher_{NOW}+*.deb /run/unpacked")
    assert fresh.run("grep", "-rlE", "/tmp/(tmp|pip-)", "/run/unpacked").out == ""
    # PEP 552: the second word of a module that is not checked against a time or a hash is 1
    headers = fresh.good("sh", "-c", "find /run/unpacked -name '*.pyc' -exec od -An -tx4 -j4 -N4 {} \\; | sort -u")
    assert "00000001" == headers.strip()
