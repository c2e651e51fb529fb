"""An agent that says what it is told to, as the words on its command line: a socket's path, then hello or bye each.

Run inside the lab by its source text. It prints the kind of each answer, and ends when it is hung up on.
"""

import socket
import sys

from privhelper.protocol import MAX_MESSAGE, Bye, Hello, Request, decode_reply, encode_request

REQUESTS: dict[str, Request] = {"hello": Hello(build="by-hand"), "bye": Bye()}

path, *words = sys.argv[1:]
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as helper:
    helper.connect(path)
    for number, word in enumerate(words, start=1):
        helper.send(encode_request(number, REQUESTS[word]))
        answer = helper.recv(MAX_MESSAGE)
        if not answer:
            sys.exit(1)
        print(type(decode_reply(answer)[1]).__name__)
