"""One who hears what services tell their service manager (sd_notify(3)), a word a line, each with the uptime.

Run inside the lab by its source text, with the socket's path. The words of one message come at one time.
"""

import os
import socket
import sys

with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
    ear.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o666)
    print("listening", flush=True)
    while True:
        message = ear.recv(4096).decode()
        with open("/proc/uptime", encoding="ascii") as uptime:
            now = uptime.read().split()[0]
        print("".join(f"{now} {word}\n" for word in message.splitlines()), end="", flush=True)
