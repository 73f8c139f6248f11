"""A hundred thousand bodies that no engine would send: each is answered in HTTP with a JSON object,
and changes nothing.
"""

import copy
import json
import os
import random
import re
import selectors
import socket
import threading
import time

import pytest

from tests.support.plugin_calls import BODIES, raw_http

_BODIES = int(os.environ.get("FUZZ_BODIES", "100000"))
_SEED = int(os.environ.get("FUZZ_SEED", "20261124"))
_CONNECTIONS = 8
_AT_ONCE = 24
_METHODS = [
    *BODIES,
    "NetworkDriver.GetCapabilities",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
    "Plugin.Activate",
]
# What asks the VSD costs a hundred times as much; it gets its share, but not an equal one.
_RARE = {"IpamDriver.RequestPool": 0.1, "IpamDriver.RequestAddress": 0.4}
_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    -(2**63),
    10**400,
    1.5,
    -0.0,
    1e308,
    "",
    " ",
    "\x00",
    "\ud800",
    "\udfff\ud800",
    "é",
    "\U0001f600",
    "a" * 5000,
    "'",
    '"',
    "\\",
    "`id`",
    "$(reboot)",
    "${HOME}",
    "; rm -rf /",
    "a,b",
    "a|b",
    "a\nb",
    "\r\nX: y",
    "../../etc/passwd",
    "%s%n",
    "{}",
    "[]",
    "null",
    "10.21.59.0/24",
    "10.21.59.77",
    "10.21.59.1",
    "10.21.59.1/24",
    "0.0.0.0/0",
    "0.0.0.0/24",
    "255.255.255.255",
    "::",
    "fd00::/64",
    "fd00::1/64",
    "10.21.59.0/33",
    "10.21.59.256",
    "1.2.3",
    "10.21.59.77/99999999999",
    "02:42:0a:15:3b:07",
    "ff:ff:ff:ff:ff:ff",
    "02:42",
    "AkLerb7v",
    "nuage-local",
    "nuage-global",
    "LocalDefault",
    "com.docker.network.gateway",
    "Enterprise",
    "d41d8cd98f00b204e9800998ecf8427e-abc",
    [],
    [None],
    [[]],
    [1, "a", {}],
    {},
    {"": ""},
    {"a": {"b": {"c": None}}},
    {"RequestAddressType": "com.docker.network.gateway"},
]
_KEYS = [
    "NetworkID",
    "EndpointID",
    "PoolID",
    "Address",
    "Options",
    "Interface",
    "IPv4Data",
    "IPv6Data",
    "AddressSpace",
    "Pool",
    "SubPool",
    "V6",
    "MacAddress",
    "AddressIPv6",
    "SandboxKey",
    "organization",
    "domain",
    "zone",
    "subnet",
    "user",
    "RequestAddressType",
    "com.docker.network.generic",
    "com.docker.network.internal",
    "com.docker.network.ipam.serial",
    "Gateway",
    "",
    "__proto__",
    "\ud800",
    "Err",
    "Error",
]


class Fuzzer:
    """Makes requests from a seed."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._weights = [_RARE.get(method, 1) for method in _METHODS]

    def request(self):
        """A path and the bytes of a body."""
        method = self._random.choices(_METHODS, self._weights)[0]
        if self._random.random() < 0.02:
            method = self._random.choice(
                [
                    "",
                    "Nothing.Here",
                    "NetworkDriver.",
                    "%00",
                    "NetworkDriver.Leave/",
                    "a" * 2000,
                    "..%2f..",
                    "?x=1",
                    "%ff%fe",
                ]
            )
        return method, self._body(method)

    def _body(self, method):
        chance = self._random.random()
        if chance < 0.03:
            return self._random.choice(
                [
                    b"",
                    b"\n",
                    b"null",
                    b"[]",
                    b"{}",
                    b"0",
                    b'"text"',
                    b"NaN",
                    b"Infinity",
                    b"{",
                    b"}",
                    b'{"a"',
                    b"\xff\xfe",
                    b"\x00",
                    b"[" * 3000,
                    b"{" * 3000,
                    b'{"a":' * 3000 + b"1" + b"}" * 3000,
                    b'{"NetworkID":"a","NetworkID":{}}',
                    b'{"NetworkID":NaN,"EndpointID":-Infinity}',
                    b"\xef\xbb\xbf{}",
                    b"{} {}",
                    b"{}x",
                ]
            )
        if chance < 0.06:
            text = json.dumps(BODIES.get(method, {})).encode()
            return text[: self._random.randrange(len(text))]
        if chance < 0.09:
            text = bytearray(json.dumps(BODIES.get(method, {})).encode())
            for _ in range(self._random.randrange(1, 4)):
                text[self._random.randrange(len(text))] = self._random.randrange(256)
            return bytes(text)
        body = copy.deepcopy(BODIES.get(method, {}))
        for _ in range(self._random.randrange(1, 4)):
            body = self._mutated(body)
        text = json.dumps(body, ensure_ascii=self._random.random() < 0.9)
        if self._random.random() < 0.02 and text.startswith('{"'):
            text = text[:1] + text[1:].split(",")[0].rstrip("}") + "," + text[1:]  # a key twice
        return text.encode("utf-8", "surrogatepass")

    def _mutated(self, value):
        pick = self._random
        if isinstance(value, dict) and value and pick.random() < 0.85:
            value = dict(value)
            key = pick.choice(list(value))
            what = pick.random()
            if what < 0.6:
                value[key] = self._mutated(value[key])
            elif what < 0.75:
                del value[key]
            elif what < 0.9:
                value[pick.choice(_KEYS)] = pick.choice(_VALUES)
            else:
                value[pick.choice(_KEYS)] = value.pop(key)
            return value
        if isinstance(value, list) and value and pick.random() < 0.7:
            value = list(value)
            place = pick.randrange(len(value))
            if pick.random() < 0.7:
                value[place] = self._mutated(value[place])
            else:
                value *= pick.choice([0, 2, 50])
            return value
        if isinstance(value, str) and value and pick.random() < 0.3:
            place = pick.randrange(len(value))
            return value[:place] + str(pick.choice(_VALUES)) + value[place:]
        return pick.choice(_VALUES)


class Connection:
    """One keep-alive connection on which several requests are under way; checks every answer."""

    def __init__(self, path, fuzzer, count):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(path)
        self._fuzzer, self.left, self._got, self.answered, self._sent = fuzzer, count, b"", 0, []
        self.statuses = {}

    def fill(self):
        """Send until enough is under way."""
        text = b""
        while self.left and len(self._sent) < _AT_ONCE:
            method, body = self._fuzzer.request()
            text += (
                b"POST /%s HTTP/1.1\r\nHost:\r\nContent-Length: %d\r\n\r\n"
                % (method.encode(), len(body))
                + body
            )
            self._sent.append((method, body))
            self.left -= 1
        if text:
            self._socket.sendall(text)

    def receive(self):
        """Take whatever came."""
        piece = self._socket.recv(1 << 18)
        assert piece, f"the connection died; unanswered: {self._sent[:2]}"
        self._got += piece
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            head = self._got[:end]
            length = int(re.search(rb"content-length: *(\d+)", head, re.I)[1])
            if len(self._got) < end + 4 + length:
                return
            body, self._got = self._got[end + 4 : end + 4 + length], self._got[end + 4 + length :]
            self._check(head, body)

    def _check(self, head, body):
        method, sent = self._sent.pop(0)
        self.answered += 1
        assert head.startswith(b"HTTP/1.1 "), (method, sent[:500], head)
        status = int(head[9:12])
        answer = json.loads(body)
        assert isinstance(answer, dict), (method, sent[:500], body[:500])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status != 200:
            assert (
                status in (404, 405, 500) and answer["Err"] and answer["Err"] == answer["Error"]
            ), (method, sent[:500], answer)
            assert "internal error" not in answer["Err"] and "Traceback" not in answer["Err"], (
                method,
                sent[:500],
                answer,
            )
        elif method in (
            "IpamDriver.RequestPool",
            "IpamDriver.RequestAddress",
            "NetworkDriver.CreateEndpoint",
        ):
            undo(self, method, sent, answer)

    @property
    def is_done(self):
        return not self.left and not self._sent

    def file(self):
        return self._socket

    def close(self):
        self._socket.close()

    given = None


def undo(connection, method, sent, answer):
    """Note what a body that happened to be valid was given, so that it is given back at the end."""
    if method == "IpamDriver.RequestPool":
        connection.given.append(("IpamDriver.ReleasePool", {"PoolID": answer["PoolID"]}))
    elif method == "IpamDriver.RequestAddress":
        connection.given.append(
            (
                "IpamDriver.ReleaseAddress",
                {"PoolID": json.loads(sent)["PoolID"], "Address": answer["Address"].split("/")[0]},
            )
        )
    else:
        body = json.loads(sent)
        connection.given.append(
            (
                "NetworkDriver.DeleteEndpoint",
                {"NetworkID": body["NetworkID"], "EndpointID": body["EndpointID"]},
            )
        )


def test_a_hundred_thousand_senseless_bodies_are_answered_and_change_nothing(own_host):
    host = own_host
    network_id = host.engine.network_create("n")
    bystander = host.engine.run("bystander", network_id)
    host.wait_attached(bystander)
    before = host.state()

    fuzzer, given = Fuzzer(_SEED), []
    paths = [host.appliance.sockets[number % 2] for number in range(_CONNECTIONS)]
    connections = [Connection(path, fuzzer, _BODIES // _CONNECTIONS) for path in paths]
    selector = selectors.DefaultSelector()
    for connection in connections:
        connection.given = given
        selector.register(connection.file(), selectors.EVENT_READ, connection)
        connection.fill()
    while not all(connection.is_done for connection in connections):
        ready = selector.select(60)
        assert ready, "no answer for 60 s"
        for key, _ in ready:
            key.data.receive()
            key.data.fill()
    for connection in connections:
        connection.close()
    statuses = {}
    for connection in connections:
        for status, count in connection.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    assert sum(statuses.values()) == _BODIES // _CONNECTIONS * _CONNECTIONS
    assert statuses[200] > _BODIES * 0.1 and statuses[500] > _BODIES * 0.1, (
        f"the mutations miss: {statuses}"
    )

    # A mutation may have been a valid call: then it is undone as the engine would.
    for method, body in given:
        plugin = host.engine.ipam if method.startswith("IpamDriver") else host.engine.network
        plugin.raw(method, json.dumps(body).encode())
    for known in set(host.appliance.status()["networks"]) - set(before["networks"]):
        host.engine.network.raw(
            "NetworkDriver.DeleteNetwork", json.dumps({"NetworkID": known}).encode()
        )
    host.appliance.wait_until(lambda: host.state() == before, what="the state before")
    host.check_log()
    host.engine.stop(bystander)
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_huge_bodies_are_refused_without_being_kept(own_host):
    """5 MB on both sockets, several at once; the process does not grow by what it was sent, and
    serves on.
    """
    host = own_host
    values = [
        b'{"NetworkID":"' + b"a" * (5 << 20) + b'"}',
        b'{"Options":[' + b"0," * (5 << 19) + b"0]}",
        b"[" * (5 << 20),
        b" " * (5 << 20),
        b"\x00" * (5 << 20),
    ]
    failures = []

    def send(method, body):
        plugin = host.engine.ipam if method.startswith("IpamDriver") else host.engine.network
        try:
            status, answer = plugin.raw(method, body)
            assert status == 500 and answer["Err"] and "internal" not in answer["Err"], answer
        except Exception as error:
            failures.append((method, body[:20], error))

    resident = _resident_kib(host)
    for method in ("NetworkDriver.CreateNetwork", "IpamDriver.RequestPool"):
        threads = [threading.Thread(target=send, args=(method, body)) for body in values]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    assert _resident_kib(host) - resident < 80_000
    assert host.engine.network.call("NetworkDriver.GetCapabilities")["Scope"] == "local"


def _resident_kib(host):
    with open(f"/proc/{host.appliance.process.pid}/status") as stream:
        return int(re.search(r"VmRSS:\s+(\d+)", stream.read())[1])


@pytest.mark.parametrize(
    "text, status, words",
    [
        (
            b"POST http://plugin/NetworkDriver.GetCapabilities HTTP/1.1\r\nHost: plugin\r\n\r\n",
            200,
            "local",
        ),
        (b"POST HTTP://plugin HTTP/1.1\r\nHost: plugin\r\n\r\n", 404, "no method"),
        (
            b"POST /networkdriver.getcapabilities HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n",
            404,
            "no method 'networkdriver.getcapabilities'",
        ),
        (b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", 404, "not a plugin request"),
        (b"TRACE / HTTP/1.1\r\nHost:\r\n\r\n", 405, "not a plugin request"),
        (
            b"POST /NetworkDriver.Leave HTTP/1.1\r\nHost:\r\nContent-Length: -5\r\n\r\n",
            400,
            "not a plugin request",
        ),
        (
            b"POST /NetworkDriver.Leave HTTP/1.1\r\nHost:\r\nContent-Length: abc\r\n\r\n",
            400,
            "not a plugin request",
        ),
        (b"POST /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", 414, "not a plugin request"),
    ],
    ids=[
        "absolute",
        "absolute without a path",
        "unknown and without a body",
        "asterisk",
        "TRACE",
        "negative length",
        "no length",
        "long",
    ],
)
def test_whatever_is_asked_the_answer_has_one_form(host, text, status, words):
    found, body = raw_http(host.appliance.sockets[0], text)
    assert found == status, body
    answer = json.loads(body)
    assert words in (answer.get("Err") or answer["Scope"]) and answer.get("Err") == answer.get(
        "Error"
    )


def test_requests_that_are_not_http_or_end_early_disturb_nobody(own_host):
    host = own_host
    before = host.state()
    body = json.dumps(BODIES["NetworkDriver.Leave"]).encode()
    texts = [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /NetworkDriver.Leave\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /NetworkDriver.Leave HTTP/9.9\r\n\r\n",
        b"POST /NetworkDriver.Leave HTTP/1.1\r\nContent-Length: -5\r\n\r\n" + body,
        b"POST /NetworkDriver.Leave HTTP/1.1\r\nContent-Length: x\r\n\r\n" + body,
        b"POST /NetworkDriver.Leave HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + body,
        b"POST /NetworkDriver.Leave HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /NetworkDriver.Leave HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
        b"POST /NetworkDriver.Leave HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 500\r\n\r\n"
        + body,
        b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /NetworkDriver.Leave HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        % len(body)
        + body,
        b"POST http://x/NetworkDriver.Leave HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body,
        b"HEAD /NetworkDriver.Leave HTTP/1.1\r\n\r\n",
        b"POST /NetworkDriver.Leave HTTP/1.1\r\nHost: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    for path in host.appliance.sockets:
        for text in texts:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                connection.connect(path)
                try:
                    connection.sendall(text)
                    connection.shutdown(socket.SHUT_WR)
                    while piece := connection.recv(65536):
                        assert b"Traceback" not in piece and b"internal error" not in piece, (
                            text[:80],
                            piece,
                        )
                except (BrokenPipeError, ConnectionResetError):
                    pass
    started = time.monotonic()
    assert host.engine.network.call("NetworkDriver.GetCapabilities")["Scope"] == "local"
    assert time.monotonic() - started < 5
    host.appliance.wait_until(lambda: host.state() == before, what="the state before")
    host.check_log()
