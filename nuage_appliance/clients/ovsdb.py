"""One OVSDB connection: framing, requests and replies of RFC 7047, on the `ovs` library's stream.

The library's own message reader parses character by character and loses a multi-byte character that is split between
two reads; here a scanner only looks for the end of a message and the standard library's JSON decoder does the rest.
Must never hold the gevent hub: long input is scanned in pieces, and a large message is decoded member by member.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import gevent.lock
import gevent.socket
import ovs.jsonrpc
import ovs.stream

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Unavailable
from nuage_appliance.base.json_pieces import decode

_READ_BYTES = 1 << 15
_LARGEST_MESSAGE_BYTES = 256 << 20
_PROBE_S = 15.0
_CONNECT_S = 5.0
# Not shorter: sleep(0) runs ready greenlets only, and lets neither timers nor sockets in before fifty turns.
_PAUSE_S = 1e-6
# A string (group 1 is its end, missing while the end is still to come), or a brace. A message is an object, so brackets
# need not be counted.
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*(?:(")|\\?\Z)|([{}])', re.DOTALL)


class Framer:
    """Cuts a byte stream of concatenated JSON objects into messages. May be fed pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._depth = 0

    @property
    def is_empty(self) -> bool:
        """True when no part of a message waits for its rest."""
        return not self._buffer

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add `data` and yield each message that is complete now. Raises ValueError when it cannot be JSON."""
        self._buffer += data
        if len(self._buffer) > _LARGEST_MESSAGE_BYTES:
            raise ValueError("a message is too long")
        while (end := self._scan()) >= 0:
            message = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._position = 0
            yield message

    def _scan(self) -> int:
        """The length of the first complete message, or -1; remembers how far it came."""
        for match in _TOKEN.finditer(self._buffer, self._position):
            if match.lastindex is None:  # a string that is still to end
                self._position = match.start()
                return -1
            if match.lastindex == 2:
                self._depth += 1 if match.group() == b"{" else -1
                if self._depth < 0:
                    raise ValueError("a brace closes nothing")
                if self._depth == 0:
                    return match.end()
        self._position = len(self._buffer)
        return -1


def _pause() -> None:
    gevent.sleep(_PAUSE_S)


class Connection:
    """A live connection. One greenlet runs serve(); any greenlet may call request()."""

    def __init__(self, remote: str, on_update: Callable[[Any], None]) -> None:
        """Connect to `remote` (a path, `unix:PATH` or `tcp:ADDRESS:PORT`); raises Unavailable. Switches greenlets."""
        self._name = remote
        self._on_update = on_update
        self._waiting: dict[int, gevent.event.AsyncResult] = {}
        self._numbers = itertools.count(1)
        self._send_lock = gevent.lock.BoundedSemaphore()
        self._closed = False
        code, stream = ovs.stream.Stream.open(remote if ":" in remote else f"unix:{remote}")
        if code not in (0, errno.EAGAIN, errno.EINPROGRESS):
            raise Unavailable(
                f"the OVSDB at {remote} does not answer: {os.strerror(code)}; is the VRS running?"
            )
        self._stream = stream
        deadline = Deadline(_CONNECT_S)
        while (code := stream.connect()) == errno.EAGAIN and not deadline.is_over:
            gevent.socket.wait_write(
                stream.socket.fileno(),
                timeout=deadline.remaining_s() or 0.01,
                timeout_exc=Unavailable(
                    f"the OVSDB at {remote} does not answer in {_CONNECT_S:.0f} s"
                ),
            )
        if code:
            stream.close()
            raise Unavailable(
                f"the OVSDB at {remote} does not answer: {os.strerror(code)}; is the VRS running?"
            )

    def serve(self) -> None:
        """Read until the connection ends, then fail every waiting request and raise Unavailable."""
        framer = Framer()
        probed = False
        reason = "the connection was closed"
        try:
            while not self._closed:
                code, data = self._stream.recv(_READ_BYTES)
                if code == errno.EAGAIN:
                    try:
                        gevent.socket.wait_read(self._stream.socket.fileno(), timeout=_PROBE_S)
                    except TimeoutError:
                        if probed:
                            reason = f"it was silent for {2 * _PROBE_S:.0f} s"
                            break
                        probed = True
                        self._send(ovs.jsonrpc.Message.create_request("echo", []))
                    continue
                if code or not data:
                    reason = os.strerror(code) if code else reason
                    break
                probed = False
                if framer.is_empty and len(data) < _READ_BYTES and data.endswith(b"}"):
                    try:  # mostly a piece is one whole message
                        message = json.loads(data)
                    except json.JSONDecodeError:
                        pass
                    else:
                        self._take(message)
                        _pause()
                        continue
                for message in framer.feed(data):
                    self._take(decode(message, _pause))
                _pause()
        except (ValueError, IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
            reason = f"it sent something that is not OVSDB ({error})"
        except OSError as error:
            reason = error.strerror or str(error)
        self.close(reason)
        raise Unavailable(f"the OVSDB at {self._name} was lost: {reason}")

    def _take(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method == "echo":
            self._send(ovs.jsonrpc.Message.create_reply(message["params"], message["id"]))
        elif method == "update":
            self._on_update(message["params"])
        elif method is None:
            waiter = self._waiting.pop(message.get("id"), None)
            if waiter is not None:
                waiter.set(message)

    def _send(self, message: ovs.jsonrpc.Message) -> None:
        data = json.dumps(message.to_json(), separators=(",", ":")).encode()
        with self._send_lock:
            while data and not self._closed:
                sent = self._stream.send(data)
                if sent >= 0:
                    data = data[sent:]
                elif sent == -errno.EAGAIN:
                    gevent.socket.wait_write(
                        self._stream.socket.fileno(),
                        timeout=_CONNECT_S,
                        timeout_exc=Unavailable(f"the OVSDB at {self._name} accepts nothing"),
                    )
                else:
                    raise Unavailable(
                        f"the OVSDB at {self._name} was lost: {os.strerror(-sent)}", sent=True
                    )

    def request(self, method: str, params: list[Any], deadline: Deadline) -> Any:
        """Send a request and return its `result`. Raises Unavailable; a JSON-RPC error raises it too. Switches."""
        if self._closed:
            raise Unavailable(f"the OVSDB at {self._name} is not connected")
        message = ovs.jsonrpc.Message.create_request(method, params)
        message.id = next(self._numbers)
        waiter = self._waiting[message.id] = gevent.event.AsyncResult()
        try:
            self._send(message)
            reply = waiter.get(timeout=deadline.remaining_s())
        except gevent.Timeout:
            raise Unavailable(
                f"the OVSDB at {self._name} did not answer in time", sent=True
            ) from None
        finally:
            self._waiting.pop(message.id, None)
        if reply.get("error") is not None:
            raise Unavailable(f"the OVSDB at {self._name} refused {method}: {reply['error']}")
        return reply["result"]

    def close(self, reason: str = "the connection was closed") -> None:
        """Close the socket and fail every waiting request; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._stream.close()
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.set_exception(
                Unavailable(f"the OVSDB at {self._name} was lost: {reason}", sent=True)
            )
