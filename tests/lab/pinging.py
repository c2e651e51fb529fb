"""A stream of numbered packets through a tunnel. What was lost is read off the numbers that were answered, never off
the count that ping prints at its end: the packet that is under way when it is told to end is in that one too."""

import math
import re
import signal
from collections.abc import Callable

from tests.lab.lab import Daemon
from tests.lab.until import until

LATER = 0.5  # seconds' worth of packets that show a stream to go on


class Pinging:
    """Packets to `address` every so many seconds, each answer noted; `start_program` says from which machine."""

    def __init__(self, start_program: Callable[..., Daemon], address: str, every: float = 0.01) -> None:
        self._ping = start_program("ping", "-n", "-i", str(every), address)
        self._later = math.ceil(LATER / every)
        until(lambda: self.answered, 5, "the first answers")

    @property
    def answered(self) -> set[int]:
        """Numbers of the packets that were answered."""
        return {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", self._ping.stdout_text())}

    def go_on(self) -> None:
        """Until half a second's worth of later packets has been answered."""
        last = max(self.answered)
        until(lambda: max(self.answered) >= last + self._later, 5, f"{self._later} more packets answered")

    def losses(self) -> set[int]:
        """Go on, then end it; the numbers of packets without an answer, but for those under way at the end."""
        self.go_on()
        self._ping.signal(signal.SIGINT)
        self._ping.wait(5)
        answered = self.answered
        print(f"{len(answered)} of the first {max(answered)} packets answered")
        return set(range(1, max(answered) + 1)) - answered
