"""Live strangers: programs on HashiCorp's memberlist, and what they and this implementation make of each other."""
