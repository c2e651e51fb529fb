"""Somebody who answers pings as a member does, by TCP and UDP on one port of 127.0.0.1, or only in part."""

from __future__ import annotations

import os
import select
import socket
import threading
from types import TracebackType
from typing import Self

from wesher.wire.codec import encode
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.messages import Ack, Ping
from wesher.wire.packet import open_packet, seal_packet
from wesher.wire.stream import StreamReader, seal_stream


class Answering:
    """tcp, udp: whether it hears them. largest: bytes of a datagram that it still hears, as behind a narrow path.
    heeds_source: whether it answers to where a ping asks for, as memberlist does since 0.2; that no answer to there
    arrives is what `is_heard` False stands for."""

    def __init__(
        self,
        key: bytes,
        *,
        tcp: bool = True,
        udp: bool = True,
        largest: int = 65536,
        heeds_source: bool = True,
        is_heard: bool = True,
    ) -> None:
        self._keyring = Keyring([key])
        self._udp_too, self._largest = udp, largest
        self._heeds_source, self._is_heard = heeds_source, is_heard
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.port: int = self._udp.getsockname()[1]
        self._tcp = socket.create_server(("127.0.0.1", self.port)) if tcp else None
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._ended)
        self._thread.join()
        os.close(self._end)
        self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    def _run(self) -> None:
        listening = [self._end, self._udp, *([self._tcp] if self._tcp is not None else [])]
        while self._end not in (readable := select.select(listening, [], [])[0]):
            if self._udp in readable:
                self._hear(*self._udp.recvfrom(65536))
            elif self._tcp is not None:
                self._serve(self._tcp.accept()[0])

    def _hear(self, data: bytes, source: tuple[str, int]) -> None:
        if not self._udp_too or len(data) > self._largest:
            return
        try:
            messages = open_packet(data, self._keyring).messages
        except WireError:
            return
        for message in messages:
            assert isinstance(message, Ping)
            assert message.node == ""
            is_asked_elsewhere = self._heeds_source and message.source_port
            to = (socket.inet_ntoa(message.source_addr), message.source_port) if is_asked_elsewhere else source
            if to == source or self._is_heard:
                self._udp.sendto(seal_packet([encode(Ack(message.seq_no))], self._keyring, os.urandom(12)), to)

    def _serve(self, connection: socket.socket) -> None:
        reader = StreamReader(self._keyring)
        with connection:
            while data := connection.recv(65536):
                try:
                    message = reader.feed(data)
                except WireError:
                    return
                if isinstance(message, Ping):
                    connection.sendall(seal_stream(encode(Ack(message.seq_no)), self._keyring, os.urandom(12)))
                    return
