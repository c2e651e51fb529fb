"""A process of the agent's uid that connects to the helper when it is told to, and hands the connection over.

Run inside the lab by its source text. What the kernel tells the helper about the other side (SO_PEERCRED) is this
process; what is said on the connection is the test's business. Each byte on descriptor 0 is answered with one byte and
a descriptor, or with the error's name.
"""

import errno
import socket
import sys

path = sys.argv[1]
tests = socket.socket(fileno=0)
while tests.recv(1):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            tests.send(errno.errorcode[error.errno or 0].encode())
        else:
            socket.send_fds(tests, [b"+"], [connection.fileno()])
