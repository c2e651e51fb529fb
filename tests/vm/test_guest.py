"""The guest itself: a machine in which nothing that fails goes unnoticed."""

import pytest

from tests.vm.guest import NO_RESULT, TIME_LIMIT, Guest, Result

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]  # making it comes first


def test_a_job_ends_with_its_output_and_exit_status(guest: Guest) -> None:
    """It runs as root, under systemd, in the checkout, where there is kernel WireGuard."""
    script = """
        id -u; cat /proc/1/comm; ls -d privhelper; ip link add wg0 type wireguard && wg show wg0 listen-port
        echo problems >&2; exit 7
    """
    assert Result(7, "0\nsystemd\nprivhelper\n0\nproblems\n") == guest.run(script, 120)


def test_a_guest_that_dies_has_no_result(guest: Guest) -> None:
    """But what it said by then."""
    result = guest.run("echo last words; sleep 1; echo b >/proc/sysrq-trigger; sleep 60", 120)
    assert result.status == NO_RESULT
    assert "last words" in result.output


def test_a_job_that_takes_too_long_is_ended(guest: Guest) -> None:
    """The machine with it."""
    assert guest.run("sleep 600", 3).status == TIME_LIMIT
