"""An agent that lies: what a live helper does with it, and that nothing else of the host notices."""
