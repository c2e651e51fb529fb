"""A laboratory of network namespaces: real daemons, real WireGuard, a network of their own."""

from tests.lab.lab import Daemon, Lab, Node, wesher_command
from tests.lab.namespaces import children, command_line, processes_in
from tests.lab.nat import Nat
from tests.lab.pinging import Pinging
from tests.lab.until import bound, until

__all__ = [
    "Lab",
    "Nat",
    "Node",
    "Pinging",
    "Daemon",
    "until",
    "bound",
    "children",
    "command_line",
    "processes_in",
    "wesher_command",
]
