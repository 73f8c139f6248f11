"""A TCP wire between the appliance and a VSD simulator, which a test can cut, silence, or plug in
elsewhere.

Faults of HTTP are the simulator's own affair (`/faults`); here are those below it.
"""

import contextlib
import selectors
import socket
import struct
import threading

_PIECE_BYTES = 65536
_ANSWERS = {"plain": b"400 Bad Request", "failing": b"500 Internal Server Error"}


class Wire:
    """Forwards one address to a simulator, or to Consul; `mode` says what happens to connections
    from now on.

    `pass`; `refused` (nobody listens); `reset` (accepted, then an RST); `silent` (accepted, never a
    byte); `plain` (answers in plain HTTP, as no TLS server would); `failing` (the same, with status
    500); `elsewhere` (forwarded to another simulator).
    """

    MODES = ("pass", "refused", "reset", "silent", "plain", "failing", "elsewhere")

    def __init__(self, address, target, elsewhere=None, scheme="https"):
        self._target, self._elsewhere = target, elsewhere
        self._lock = threading.Lock()
        self._open = set()
        self._mode = "pass"
        self._listener = None
        self._listen((address, 0))
        self.address = self._listener.getsockname()
        self.url = f"{scheme}://{self.address[0]}:{self.address[1]}"

    @property
    def mode(self):
        """What happens to connections now."""
        return self._mode

    @mode.setter
    def mode(self, mode):
        assert mode in self.MODES, mode
        self._mode = mode
        self._close_listener()
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            self._reset(connection)
        if mode != "refused":
            self._listen(self.address)

    def close(self):
        """End every connection and stop listening."""
        self.mode = "refused"

    def _listen(self, address):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener, self._mode), daemon=True).start()

    def _close_listener(self):
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            self._listener.close()
            self._listener = None

    @staticmethod
    def _reset(connection):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _accept(self, listener, mode):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            # The mode changed at this moment, too late for what ended the others.
            if self._listener is not listener:
                self._reset(connection)
                return
            threading.Thread(target=self._serve, args=(connection, mode), daemon=True).start()

    def _serve(self, connection, mode):
        # A ValueError: the connection was reset before it could be selected.
        try:
            if mode == "reset":
                self._reset(connection)
            elif mode == "silent":
                while connection.recv(_PIECE_BYTES):
                    pass
            elif mode in _ANSWERS:
                connection.recv(_PIECE_BYTES)
                connection.sendall(
                    b"HTTP/1.1 "
                    + _ANSWERS[mode]
                    + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            else:
                self._forward(connection, self._elsewhere if mode == "elsewhere" else self._target)
        except (
            OSError,
            ValueError,
        ):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _forward(self, connection, target):
        with (
            socket.create_connection(target, timeout=10) as other,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(connection, selectors.EVENT_READ, other)
            selector.register(other, selectors.EVENT_READ, connection)
            with self._lock:
                self._open.add(other)
            try:
                while True:
                    for key, _ in selector.select():
                        piece = key.fileobj.recv(_PIECE_BYTES)
                        if not piece:
                            return
                        key.data.sendall(piece)
            finally:
                with self._lock:
                    self._open.discard(other)
