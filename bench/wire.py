"""Cheap ends of the wires: a plugin caller with kept-alive connections, and a watcher of OVSDB
rows.
"""

import codecs
import json
import re
import socket
import time

import gevent
import gevent.event

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Caller:
    """One caller of one plugin socket: as the engine, POST with keep-alive; one call at a time."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self.samples = None  # a list: (started, milliseconds) of each call goes there

    def call(self, method, body=None):
        """Call a method and return its answer; RuntimeError when it is an error."""
        started_s = time.monotonic()
        try:
            return self._call(method, body)
        finally:
            if self.samples is not None:
                self.samples.append((started_s, (time.monotonic() - started_s) * 1000))

    def _call(self, method, body):
        payload = b"" if body is None else json.dumps(body).encode()
        self._socket.sendall(
            b"POST /%s HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n"
            b"Content-Length: %d\r\n"
            b"Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n%s"
            % (method.encode(), len(payload), payload)
        )
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._read(method)
        wanted = end + 4 + int(_LENGTH.search(data).group(1))
        while len(data) < wanted:
            data += self._read(method)
        answer = json.loads(data[end + 4 : wanted])
        if data[9:12] != b"200" or answer.get("Err") or answer.get("Error"):
            raise RuntimeError(f"{method}: {answer}")
        return answer

    def _read(self, method):
        piece = self._socket.recv(65536)
        if not piece:
            raise RuntimeError(f"{method}: the appliance closed the connection")
        return piece

    def close(self):
        """Close the connection."""
        self._socket.close()


class Database:
    """A connection to OVSDB: transactions, and the moment at which each port's Nuage row came and
    went.
    """

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._answers, self._number = {}, 0
        self.present, self._waiting = {}, {}
        self._reader = gevent.spawn(self._read)
        initial = self.request(
            "monitor", ["Open_vSwitch", None, {"Nuage_Port_Table": [{"columns": ["name"]}]}]
        )
        self._update(initial, time.perf_counter())

    def request(self, method, params):
        """Send a request and return its result."""
        self._number += 1
        number = self._number
        answer = self._answers[number] = gevent.event.AsyncResult()
        self._socket.sendall(
            json.dumps({"method": method, "params": params, "id": number}).encode()
        )
        message = answer.get(timeout=60)
        if message["error"]:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def transact(self, *operations):
        """One transaction."""
        results = self.request("transact", ["Open_vSwitch", *operations])
        bad = [result for result in results if isinstance(result, dict) and result.get("error")]
        if bad:
            raise RuntimeError(f"transact: {bad[0]}")
        return results

    def _read(self):
        decoder, text = json.JSONDecoder(), ""
        characters = codecs.getincrementaldecoder("utf-8")()
        while piece := self._socket.recv(1 << 18):
            now_s = time.perf_counter()
            text += characters.decode(piece)
            while text:
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                if message.get("method") == "update":
                    self._update(message["params"][1], now_s)
                elif message.get("method") == "echo":
                    self._socket.sendall(
                        json.dumps(
                            {"id": message["id"], "result": message["params"], "error": None}
                        ).encode()
                    )
                elif message.get("id") in self._answers:
                    self._answers.pop(message["id"]).set(message)

    def _update(self, tables, now_s):
        for change in tables.get("Nuage_Port_Table", {}).values():
            if "new" in change:
                name = change["new"]["name"]
                self.present.setdefault(name, now_s)
                waiter = self._waiting.pop(name, None)
                if waiter is not None:
                    waiter.set(now_s)
            else:
                self.present.pop(change["old"]["name"], None)

    def committed(self, name, timeout_s=30):
        """Wait for a port's row and return when it was seen."""
        if name in self.present:
            return self.present[name]
        waiter = self._waiting.setdefault(name, gevent.event.AsyncResult())
        return waiter.get(timeout=timeout_s)

    def close(self):
        """Close the connection."""
        self._reader.kill()
        self._socket.close()
