"""What the host's kernel may lack: tests that run in a guest of their own."""
