"""A door before a server: while it is shut, nobody gets through, and who was inside is thrown out."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Thread
from urllib.parse import urlsplit


class Door:
    """Passes connections on to a server; open at first.

    A server that is ended loses what it holds in memory; behind a door it is only out of reach.
    """

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = (parts.hostname or "", parts.port or 80)
        self._port = 0
        self._listener: socket.socket | None = None
        self._through: list[socket.socket] = []
        self.passed = 0  # connections, in all
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        Thread(target=self._admit, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """From now on connections are refused, and those that were made are broken."""
        assert self._listener is not None
        # A thread that waits in accept() keeps a closed listener alive; shutdown wakes it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = None
        for connection in self._through:
            _end(connection)
        self._through.clear()

    def _admit(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                outside, _ = listener.accept()
                inside = socket.create_connection(self._server)
                self._through += [outside, inside]
                self.passed += 1
                if self._listener is not listener:
                    _end(outside), _end(inside)
                for source, target in ((outside, inside), (inside, outside)):
                    Thread(target=_carry, args=(source, target), daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _end(source), _end(target)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
