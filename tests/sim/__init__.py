"""Whole clusters in virtual time: the simulator, what it checks, and the scenarios."""
