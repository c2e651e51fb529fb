"""The virtual network of `tests.sim`, for tests of the gossip core by itself."""

from tests.sim.network import KEY, PORT, START, TODAY, Host, VirtualNetwork, Weather, endpoint, make_node

__all__ = ["KEY", "PORT", "START", "TODAY", "Host", "VirtualNetwork", "Weather", "endpoint", "make_node"]
