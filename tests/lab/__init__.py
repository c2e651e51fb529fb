"""A laboratory of network namespaces: real daemons, real WireGuard, a network of their own."""

from tests.lab.lab import Daemon, Lab, Node, wesher_command
from tests.lab.namespaces import children, processes_in
from tests.lab.until import bound, until

__all__ = ["Lab", "Node", "Daemon", "until", "bound", "children", "processes_in", "wesher_command"]
