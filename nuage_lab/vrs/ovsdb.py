"""A small OVSDB client (RFC 7047): one monitor, transactions without waiting.

Runs a thread that reads and reconnects. It puts on the owner's queue: ("database", "reset",
tables), ("database", "update", tables), ("database", "reply", (label, problem)) and ("database",
"lost", text).
"""

import contextlib
import itertools
import json
import socket
import threading
import time

DATABASE = "Open_vSwitch"
FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 1.0


class Ovsdb:
    """Owns the connection; `columns` maps each monitored table to its columns."""

    def __init__(self, path, columns, queue):
        self.path = path
        self.columns = columns
        self.queue = queue
        self._ids = itertools.count(1)
        self._labels = {}  # by the id of a transaction that has no reply yet
        self._lock = threading.Lock()
        self._socket = None

    def start(self):
        """Start the reading thread; returns at once."""
        threading.Thread(target=self._read_for_ever, name="ovsdb", daemon=True).start()

    def transact(self, operations, label):
        """Send a transaction; its outcome comes as a reply with the label.

        Without a connection, or when it is lost, no reply ever comes.
        """
        identifier = next(self._ids)
        self._labels[identifier] = label
        self._send({"id": identifier, "method": "transact", "params": [DATABASE, *operations]})

    def _send(self, message):
        with self._lock:
            if self._socket is None:
                return
            # After an error the reading thread sees the end of the connection, and reconnects.
            with contextlib.suppress(OSError):
                self._socket.sendall(json.dumps(message).encode())

    def _read_for_ever(self):
        pause = FIRST_PAUSE_S
        while True:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.connect(self.path)
                    with self._lock:
                        self._socket = connection
                    self._labels.clear()
                    self._send(self._monitor_request())
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

    def _monitor_request(self):
        tables = {name: {"columns": list(columns)} for name, columns in self.columns.items()}
        return {"id": "monitor", "method": "monitor", "params": [DATABASE, "vsc", tables]}

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
            label = self._labels.pop(identifier)
            self.queue.put(("database", "reply", (label, problem_of(message))))


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
    for result in reply["result"]:
        if result and "error" in result:
            return f"{result['error']}: {result.get('details', '')}"
    return None


def as_map(value):
    """Return an OVSDB map as a dict."""
    return dict(value[1])


def as_set(value):
    """Return the items of an OVSDB set, in which a single item comes bare; references as UUIDs."""
    items = value[1] if isinstance(value, list) and value and value[0] == "set" else [value]
    return [item[1] if isinstance(item, list) else item for item in items]
