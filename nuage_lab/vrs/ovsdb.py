"""A small OVSDB client (RFC 7047): one monitor, transactions without waiting. Runs a thread that reads and reconnects.

What arrives is put on the owner's queue: ("database", "reset", tables), ("database", "update", tables),
("database", "reply", (label, problem)) and ("database", "lost", text).
"""

import itertools
import json
import socket
import threading
import time

DATABASE = "Open_vSwitch"
FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 1.0


class Ovsdb:
    """Owns the connection. columns maps each monitored table to its columns."""

    def __init__(self, path, columns, queue):
        self.path = path
        self.columns = columns
        self.queue = queue
        self._ids = itertools.count(1)
        self._labels = {}
        self._lock = threading.Lock()
        self._socket = None

    def start(self):
        threading.Thread(target=self._read_for_ever, name="ovsdb", daemon=True).start()

    def transact(self, operations, label):
        """Send a transaction; its outcome comes as a reply with the label. Lost silently with the connection."""
        identifier = next(self._ids)
        self._labels[identifier] = label
        self._send({"id": identifier, "method": "transact", "params": [DATABASE, *operations]})

    def _send(self, message):
        with self._lock:
            if self._socket is None:
                return
            try:
                self._socket.sendall(json.dumps(message).encode())
            except OSError:  # the reading thread sees it as well, and reconnects
                pass

    def _read_for_ever(self):
        pause = FIRST_PAUSE_S
        while True:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.connect(self.path)
                    with self._lock:
                        self._socket = connection
                    self._labels.clear()
                    request = {
                        name: {"columns": list(columns)} for name, columns in self.columns.items()
                    }
                    self._send(
                        {"id": "monitor", "method": "monitor", "params": [DATABASE, "vsc", request]}
                    )
                    for message in messages(connection):
                        pause = FIRST_PAUSE_S
                        self._handle(message)
                reason = "closed by the server"
            except (OSError, ValueError) as error:
                reason = str(error)
            with self._lock:
                self._socket = None
            self.queue.put(("database", "lost", reason))
            time.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE_S)

    def _handle(self, message):
        method, identifier = message.get("method"), message.get("id")
        if method == "echo":
            self._send({"id": identifier, "result": message["params"], "error": None})
        elif method == "update":
            self.queue.put(("database", "update", message["params"][1]))
        elif identifier == "monitor":
            if message.get("error"):
                raise ValueError(f"monitor refused: {message['error']}")
            self.queue.put(("database", "reset", message["result"]))
        elif identifier in self._labels:
            self.queue.put(
                ("database", "reply", (self._labels.pop(identifier), problem_of(message)))
            )


def messages(connection):
    """Yield the JSON objects of a stream without delimiters until it ends."""
    decoder, text = json.JSONDecoder(), b""
    while True:
        data = connection.recv(1 << 18)
        if not data:
            return
        text += data
        if not data.endswith(b"}"):  # an object cannot be complete yet
            continue
        try:
            string = text.decode()
        except UnicodeDecodeError:
            continue
        position = 0
        while position < len(string):
            try:
                message, position = decoder.raw_decode(string, position)
            except json.JSONDecodeError:
                break
            yield message
        text = string[position:].encode()


def problem_of(reply):
    """Return what went wrong in a transaction's reply, or None (vrs §6, rule 1)."""
    if reply.get("error"):
        return reply["error"]
    return next(
        (f"{r['error']}: {r.get('details', '')}" for r in reply["result"] if r and "error" in r),
        None,
    )


def as_map(value):
    """Decode an OVSDB map."""
    return dict(value[1])


def as_set(value):
    """Decode an OVSDB set, one element of which comes bare. References become their uuid."""
    items = value[1] if isinstance(value, list) and value and value[0] == "set" else [value]
    return [item[1] if isinstance(item, list) else item for item in items]
