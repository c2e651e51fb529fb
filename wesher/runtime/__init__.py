"""The agent as a process: sockets, files, time and the helper, in one asyncio loop. No protocol is decided here."""
