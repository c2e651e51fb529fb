"""The three ways to run wesher, each on a real systemd or a real container engine."""
