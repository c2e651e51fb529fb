"""Membership by gossip: SWIM with Lifeguard as memberlist speaks it, without a socket, a clock or a die of its own."""
