"""Veth pairs of the host, through rtnetlink.

Owns the netlink messages and the queue of links to delete. Deleting one veth holds the caller in the kernel for some
20 ms, so nothing here runs on the gevent hub: every message is sent from a native thread, and deletions are gathered
into a device group that the kernel takes down at once. Must never delete a device that is not a veth of ours.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import random
import socket as _patched_socket
import struct
from collections.abc import Callable

import gevent
import gevent.queue
from gevent import monkey
from gevent.threadpool import ThreadPool

from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.model import DOOMED_ALIAS, Link, VethPair

_log = logging.getLogger(__name__)
_Socket = monkey.get_original("socket", "socket")

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
_NLM_REQUEST, _NLM_ACK, _NLM_DUMP, _NLM_EXCL, _NLM_CREATE = 1, 4, 0x300, 0x200, 0x400
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_GROUP = 20, 26, 27
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1
_IFF_UP = 1
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_NETLINK_ROUTE = 0
_TIMEOUT_S = 10
_GATHER_S = 0.004
_LARGEST_BATCH = 256
_LONGEST_QUEUE = 20_000


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _message(kind: int, flags: int, sequence: int, attributes: bytes, up: bool = False) -> bytes:
    flag = _IFF_UP if up else 0
    body = struct.pack("=BxHiII", _patched_socket.AF_UNSPEC, 0, 0, flag, flag) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags | _NLM_REQUEST, sequence, 0) + body


class _Netlink:
    """One rtnetlink socket, for use inside one native thread."""

    def __init__(self) -> None:
        self._socket = _Socket(_patched_socket.AF_NETLINK, _patched_socket.SOCK_RAW | _patched_socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.setsockopt(_patched_socket.SOL_SOCKET, _patched_socket.SO_RCVBUF, 1 << 21)
        self._socket.bind((0, 0))

    def __enter__(self) -> _Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def acknowledge(self, messages: list[bytes]) -> list[int]:
        """Send the messages one after the other; returns each one's errno (0 is success)."""
        results = []
        for message in messages:
            self._socket.send(message)
            results.append(self._answer())
        return results

    def _answer(self) -> int:
        while True:
            data = self._socket.recv(1 << 16)
            for kind, body in _split(data):
                if kind == 2:  # NLMSG_ERROR, also the acknowledgement
                    return -struct.unpack_from("=i", body)[0]

    def kind_of(self, name: str) -> str | None:
        """The kind of one device, such as `veth`; None when it does not exist."""
        self._socket.send(_message(_RTM_GETLINK, 0, 1, _text(_IFLA_IFNAME, name)))
        for kind, body in _split(self._socket.recv(1 << 16)):
            if kind == _RTM_NEWLINK:
                return _link(body).kind
        return None

    def dump(self) -> list[bytes]:
        """The bodies of all RTM_NEWLINK messages of a complete dump."""
        self._socket.send(_message(_RTM_GETLINK, _NLM_DUMP, 1, b""))
        bodies: list[bytes] = []
        while True:
            for kind, body in _split(self._socket.recv(1 << 18)):
                if kind == 3:  # NLMSG_DONE
                    return bodies
                if kind == 2:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, os.strerror(code))
                bodies.append(body)


def _split(data: bytes):
    offset = 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < 16:
            return
        yield kind, data[offset + 16:offset + length]
        offset += length + (-length % 4)


def _attributes(body: bytes, offset: int):
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, body[offset + 4:offset + length]
        offset += length + (-length % 4)


def _link(body: bytes) -> Link:
    flags = struct.unpack_from("=I", body, 8)[0]
    name = alias = kind = ""
    group = mtu = 0
    for code, value in _attributes(body, 16):
        if code == _IFLA_IFNAME:
            name = value.rstrip(b"\0").decode(errors="replace")
        elif code == _IFLA_IFALIAS:
            alias = value.rstrip(b"\0").decode(errors="replace")
        elif code == _IFLA_GROUP:
            group = struct.unpack("=I", value)[0]
        elif code == _IFLA_MTU:
            mtu = struct.unpack("=I", value)[0]
        elif code == _IFLA_LINKINFO:
            for inner, text in _attributes(value, 0):
                if inner == _IFLA_INFO_KIND:
                    kind = text.rstrip(b"\0").decode(errors="replace")
    return Link(name, kind, alias, group, mtu, bool(flags & _IFF_UP))


def _checksum_off(device: str) -> None:
    """Switch off tx checksum offload; the userspace datapath forwards the unfinished checksums as they are."""
    value = array.array("B", struct.pack("II", _ETHTOOL_STXCSUM, 0))
    with _Socket(_patched_socket.AF_INET, _patched_socket.SOCK_DGRAM) as channel:
        fcntl.ioctl(channel, _SIOCETHTOOL, struct.pack("16sP", device.encode(), value.buffer_info()[0]) + b"\0" * 16)


class Links:
    """The host's veth pairs. All methods may switch greenlets, none blocks the hub."""

    def __init__(self, rng: random.Random | None = None, threads: int = 4) -> None:
        self._pool = ThreadPool(threads)
        self._doomed: gevent.queue.Queue = gevent.queue.Queue(maxsize=_LONGEST_QUEUE)
        self._rng = rng or random.SystemRandom()

    def list(self) -> list[Link]:
        """Every device of the host; complete or raises Unavailable."""
        return self._run("list the devices", self._list)

    def _list(self) -> list[Link]:
        with _Netlink() as netlink:
            return [_link(body) for body in netlink.dump()]

    def create(self, pair: VethPair, alias: str, mtu: int, mac: str, checksum_offload: bool) -> None:
        """Make the pair: the bridge port up, without IPv6, marked with `alias`; the entity port down, with `mac`.

        `mtu` in bytes, 0 for the kernel's default. Raises Conflict when one of the two names is taken (nothing is
        left behind), Unavailable when the kernel refuses.
        """
        self._run(f"create the veth pair {pair.bridge_port}", self._create, pair, alias, mtu, mac, checksum_offload)

    def _create(self, pair: VethPair, alias: str, mtu: int, mac: str, checksum_offload: bool) -> None:
        size = _attribute(_IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""
        hardware = _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
        peer = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, pair.entity_port) + size + hardware
        info = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, peer))
        new = _message(_RTM_NEWLINK, _NLM_ACK | _NLM_CREATE | _NLM_EXCL, 1,
                       _text(_IFLA_IFNAME, pair.bridge_port) + size + _attribute(_IFLA_LINKINFO, info))
        no_ipv6 = _attribute(_IFLA_AF_SPEC, _attribute(_patched_socket.AF_INET6, _attribute(
            _IFLA_INET6_ADDR_GEN_MODE, struct.pack("=B", _ADDR_GEN_NONE))))
        named = _text(_IFLA_IFNAME, pair.bridge_port)
        # The alias comes before everything else: a crash after it leaves a link that says whose it is.
        mark = _message(_RTM_SETLINK, _NLM_ACK, 2, named + _attribute(_IFLA_IFALIAS, alias.encode()))
        up = _message(_RTM_SETLINK, _NLM_ACK, 3, named, up=True)
        quiet = _message(_RTM_SETLINK, _NLM_ACK, 4, named + no_ipv6)
        with _Netlink() as netlink:
            code = netlink.acknowledge([new])[0]
            if code == errno.EEXIST:
                raise Conflict(f"the device {pair.bridge_port} or {pair.entity_port} exists already")
            if code:
                raise OSError(code, os.strerror(code))
            try:
                # A kernel without IPv6 refuses `quiet`; then there is nothing to keep quiet.
                marked, _, upped = netlink.acknowledge([mark, quiet, up])
                for code in (marked, upped):
                    if code:
                        raise OSError(code, os.strerror(code))
                if not checksum_offload:
                    _checksum_off(pair.entity_port)
            except OSError:
                netlink.acknowledge([_message(_RTM_DELLINK, _NLM_ACK, 5, named)])
                raise

    def set_alias(self, device: str, alias: str) -> None:
        """Replace the alias of one of our bridge ports; raises NotFound when it is gone."""
        self._own(device)
        self._run(f"mark the device {device}", self._set_alias, device, alias)

    def _set_alias(self, device: str, alias: str) -> None:
        with _Netlink() as netlink:
            code = netlink.acknowledge([_message(_RTM_SETLINK, _NLM_ACK, 1, _text(_IFLA_IFNAME, device) + _attribute(_IFLA_IFALIAS, alias.encode()))])[0]
        if code == errno.ENODEV:
            raise NotFound(f"the device {device} does not exist")
        if code:
            raise OSError(code, os.strerror(code))

    def exists(self, device: str) -> bool:
        """True when the host has a device of that name now."""
        return self._run(f"look for the device {device}", self._exists, device)

    def _exists(self, device: str) -> bool:
        with _Netlink() as netlink:
            return netlink.kind_of(device) is not None

    def delete_later(self, device: str, then: Callable[[], None] = lambda: None) -> None:
        """Delete the pair of a bridge port of ours soon, together with others, and call `then` when it is gone.

        Returns before it is gone; a device that is gone already is success. Raises Unavailable when 20,000 are waiting.
        """
        self._own(device)
        # Marked first: when the process dies before the kernel is through, the next start knows that nobody wants it.
        try:
            self.set_alias(device, DOOMED_ALIAS)
        except NotFound:
            then()
            return
        try:
            self._doomed.put_nowait((device, then))
        except gevent.queue.Full:
            raise Unavailable(f"{_LONGEST_QUEUE} links wait for deletion; the kernel is too slow") from None

    def serve_deletions(self) -> None:
        """The greenlet that deletes what delete_later was given; never returns."""
        while True:
            batch = [self._doomed.get()]
            gevent.sleep(_GATHER_S)
            while len(batch) < _LARGEST_BATCH and not self._doomed.empty():
                batch.append(self._doomed.get_nowait())
            names = sorted({device for device, _ in batch})
            try:
                self._run(f"delete {len(names)} veth pairs", self._delete, names)
            except Unavailable as fault:
                _log.warning("%s; the audit tries again", fault.message)
                continue
            for _, then in batch:
                then()

    def _delete(self, names: list[str]) -> None:
        # A random group of 31 bits: that any other device of the host is in it is as likely as a MAC clash.
        group = struct.pack("=I", self._rng.randrange(1 << 16, 1 << 31))
        with _Netlink() as netlink:
            ours = [name for name in names if netlink.kind_of(name) == "veth"]
            moved = netlink.acknowledge([
                _message(_RTM_SETLINK, _NLM_ACK, n, _text(_IFLA_IFNAME, name) + _attribute(_IFLA_GROUP, group))
                for n, name in enumerate(ours)])
            if 0 not in moved:
                return
            code = netlink.acknowledge([_message(_RTM_DELLINK, _NLM_ACK, 0, _attribute(_IFLA_GROUP, group))])[0]
            if code and code != errno.ENODEV:
                raise OSError(code, os.strerror(code))

    @staticmethod
    def _own(device: str) -> None:
        if not VethPair.is_bridge_port(device):
            raise Refused(f"the device {device!r} is not a bridge port of this driver; only nln…-1 may be changed")

    def _run(self, what: str, work, *arguments):
        # A thread of gevent's pool prints what it does not catch, so failures come back as values.
        value, error = self._pool.apply(_attempt, (work, arguments))
        if error is None:
            return value
        if isinstance(error, OSError):
            hint = "; the appliance needs root and CAP_NET_ADMIN" if error.errno in (errno.EPERM, errno.EACCES) else ""
            raise Unavailable(f"the kernel did not {what}: {error.strerror or error}{hint}") from error
        raise error


def _attempt(work, arguments):
    try:
        return work(*arguments), None
    except (OSError, Fault) as error:
        return None, error
