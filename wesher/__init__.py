"""A mesh overlay network: the agent, which faces the network and has no privilege."""
