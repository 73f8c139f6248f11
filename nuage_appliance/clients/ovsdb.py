"""One OVSDB connection: framing, requests and replies of RFC 7047, on the `ovs` library's stream.

Owns the socket and who waits for which reply. Must never hold the gevent hub: long input is scanned
in pieces, and a large message is decoded member by member.

Framing. JSON-RPC over a stream has no lengths and no separators: a message ends where its JSON
ends. The library's own reader parses character by character in Python, which holds the hub for
seconds when a large switch answers, and loses a multi-byte character that is split between two
reads. Here a scanner only finds the ends, and the standard library's decoder does the rest. Every
message is an object, so it ends at the brace that closes its first one; brackets need not be
counted. Braces inside of strings do not count, so strings are skipped as a whole; a backslash takes
the next byte with it, so that an escaped quote ends nothing. UTF-8 needs no care: no byte of a
multi-byte character looks like a quote, a brace or a backslash. The scanner works on the bytes as
they come and remembers how far it was (`_position`, `_depth`), so each byte is looked at once,
however small the pieces are; only a string that is cut at the end of a piece is scanned again, from
its first quote.

Pieces. A switch with thousands of ports answers a monitor with tens of megabytes. Reading takes at
most 32 KiB at a time and pauses after each; decoding pauses between batches of members
(base/json_pieces). So the hub is free for other greenlets, timers and sockets all the time, at the
price that updates of different messages can be interleaved with other greenlets' reading of the
mirror: never within one message, since a message is taken over without a pause.
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
from nuage_appliance.base.yielding import pause

_READ_BYTES = 1 << 15
_LARGEST_MESSAGE_BYTES = 256 << 20
_PROBE_S = 15.0
_CONNECT_S = 5.0
# A string (group 1 is its closing quote, missing while that is still to come), or a brace.
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*(?:(")|\\?\Z)|([{}])', re.DOTALL)


class Framer:
    """Cuts a byte stream of concatenated JSON objects into messages; see the head of this file."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._depth = 0

    @property
    def is_empty(self) -> bool:
        """True when no part of a message waits for its rest."""
        return not self._buffer

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add `data`, of any size, and yield each message that is complete now.

        Raises ValueError when it cannot be JSON, or a message is longer than 256 MiB.
        """
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
            if match.lastindex is None:  # a string whose end is still to come
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


def _whole_message(data: bytes) -> dict[str, Any] | None:
    """The message that a piece is; None when it is a part of one, or more than one.

    A shortcut around the scanner: most pieces are one short message.
    """
    if len(data) >= _READ_BYTES or not data.endswith(b"}"):
        return None
    try:
        message: dict[str, Any] = json.loads(data)
    except json.JSONDecodeError:
        return None
    return message


class Connection:
    """A live connection. One greenlet runs serve(); any greenlet may call request().

    `_waiting` holds who waits for a reply, by the id of the request.
    """

    def __init__(self, remote: str, on_update: Callable[[Any], None]) -> None:
        """Connect to `remote` (a path, `unix:PATH` or `tcp:ADDRESS:PORT`). Switches greenlets.

        `on_update` gets the params of each `update`, one message after the other. Raises
        Unavailable.
        """
        self._name = remote
        self._on_update = on_update
        self._waiting: dict[int, gevent.event.AsyncResult[dict[str, Any]]] = {}
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
                if framer.is_empty and (whole := _whole_message(data)) is not None:
                    self._take(whole)
                else:
                    for message in framer.feed(data):
                        self._take(decode(message, pause))
                pause()
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
            number = message.get("id")
            waiter = self._waiting.pop(number, None) if isinstance(number, int) else None
            if waiter is not None:
                waiter.set(message)

    def _send(self, message: ovs.jsonrpc.Message) -> None:
        """Send a whole message; others wait, so that messages do not mix on the stream."""
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
        """Send a request and return its `result`. Switches greenlets.

        Raises Unavailable, also for a JSON-RPC error.
        """
        if self._closed:
            raise Unavailable(f"the OVSDB at {self._name} is not connected")
        message = ovs.jsonrpc.Message.create_request(method, params)
        number = next(self._numbers)
        message.id = number
        waiter: gevent.event.AsyncResult[dict[str, Any]] = gevent.event.AsyncResult()
        self._waiting[number] = waiter
        try:
            self._send(message)
            reply = waiter.get(timeout=deadline.remaining_s())
        except gevent.Timeout:
            raise Unavailable(
                f"the OVSDB at {self._name} did not answer in time", sent=True
            ) from None
        finally:
            self._waiting.pop(number, None)
        assert reply is not None  # it is what _take() has set
        if reply.get("error") is not None:
            raise Unavailable(f"the OVSDB at {self._name} refused {method}: {reply['error']}")
        return reply["result"]

    def close(self, reason: str = "the connection was closed") -> None:
        """Close the socket and fail every waiting request; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._stream.close()
        waiting = self._waiting
        self._waiting = {}
        for waiter in waiting.values():
            waiter.set_exception(
                Unavailable(f"the OVSDB at {self._name} was lost: {reason}", sent=True)
            )
