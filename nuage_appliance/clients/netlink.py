"""rtnetlink: messages about links, and the socket that carries them.

Owns the numbers of the kernel's interface (linux/rtnetlink.h, if_link.h). For use in native threads only: the kernel does
its work inside of the system call, which no cooperative socket can shorten.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket as _patched_socket
import struct

from gevent import monkey

from nuage_appliance.model import Link

_Socket = monkey.get_original("socket", "socket")

RTM_NEWLINK, RTM_DELLINK, _RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
_NLM_REQUEST, _NLM_ACK, _NLM_DUMP, NLM_EXCL, NLM_CREATE = 1, 4, 0x300, 0x200, 0x400
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO = 1, 3, 4, 18
IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP = 20, 26, 27
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE = 8, 1
_IFF_UP = 1
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_NETLINK_ROUTE = 0
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TIMEOUT_S = 10


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a string."""
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, flags: int, attributes: bytes, up: bool = False) -> bytes:
    """A message about a link; with `up`, one that takes it up."""
    flag = _IFF_UP if up else 0
    body = struct.pack("=BxHiII", _patched_socket.AF_UNSPEC, 0, 0, flag, flag) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags | _NLM_REQUEST, 0, 0) + body


class Netlink:
    """One rtnetlink socket, for use inside one native thread."""

    def __init__(self) -> None:
        self._socket = _Socket(
            _patched_socket.AF_NETLINK,
            _patched_socket.SOCK_RAW | _patched_socket.SOCK_CLOEXEC,
            _NETLINK_ROUTE,
        )
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.setsockopt(_patched_socket.SOL_SOCKET, _patched_socket.SO_RCVBUF, 1 << 21)
        self._socket.bind((0, 0))

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def carry_out(self, messages: list[bytes]) -> dict[int, int]:
        """Send all messages in one go; returns the errno of each that failed, by its index.

        Every system call of a native thread gives the interpreter's lock away and waits for it again, so their number counts.
        """
        if not messages:
            return {}
        failed: dict[int, int] = {}
        last = len(messages) - 1
        stream = bytearray()
        for index, message in enumerate(messages):
            kind, flags = struct.unpack_from("=HH", message, 4)
            stream += (
                message[:6]
                + struct.pack("=HI", flags | (_NLM_ACK if index == last else 0), index)
                + message[12:]
            )
        self._socket.send(stream)
        while True:
            for kind, index, body in _split(self._socket.recv(1 << 18)):
                if kind != _NLMSG_ERROR:
                    continue
                code = -struct.unpack_from("=i", body)[0]
                if code:
                    failed[index] = code
                if index == last:
                    return failed

    def kind_of(self, name: str) -> str | None:
        """The kind of one device, such as `veth`; None when it does not exist."""
        self._socket.send(message(_RTM_GETLINK, 0, text(IFLA_IFNAME, name)))
        for kind, _, body in _split(self._socket.recv(1 << 16)):
            if kind == RTM_NEWLINK:
                return link_of(body).kind
        return None

    def dump(self) -> list[bytes]:
        """The bodies of all RTM_NEWLINK messages of a complete dump."""
        self._socket.send(message(_RTM_GETLINK, _NLM_DUMP, b""))
        bodies: list[bytes] = []
        while True:
            for kind, _, body in _split(self._socket.recv(1 << 18)):
                if kind == _NLMSG_DONE:
                    return bodies
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, os.strerror(code))
                bodies.append(body)


def _split(data: bytes):
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
        if length < 16:
            return
        yield kind, sequence, data[offset + 16 : offset + length]
        offset += length + (-length % 4)


def _attributes(body: bytes, offset: int):
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, body[offset + 4 : offset + length]
        offset += length + (-length % 4)


def link_of(body: bytes) -> Link:
    """Read the body of an RTM_NEWLINK."""
    flags = struct.unpack_from("=I", body, 8)[0]
    name = alias = kind = ""
    group = mtu = 0
    for code, value in _attributes(body, 16):
        if code == IFLA_IFNAME:
            name = value.rstrip(b"\0").decode(errors="replace")
        elif code == IFLA_IFALIAS:
            alias = value.rstrip(b"\0").decode(errors="replace")
        elif code == IFLA_GROUP:
            group = struct.unpack("=I", value)[0]
        elif code == IFLA_MTU:
            mtu = struct.unpack("=I", value)[0]
        elif code == IFLA_LINKINFO:
            for inner, word in _attributes(value, 0):
                if inner == IFLA_INFO_KIND:
                    kind = word.rstrip(b"\0").decode(errors="replace")
    return Link(name, kind, alias, group, mtu, bool(flags & _IFF_UP))


def checksum_off(device: str) -> None:
    """Switch off tx checksum offload; the userspace datapath forwards the unfinished checksums as they are."""
    value = array.array("B", struct.pack("II", _ETHTOOL_STXCSUM, 0))
    with _Socket(_patched_socket.AF_INET, _patched_socket.SOCK_DGRAM) as channel:
        fcntl.ioctl(
            channel,
            _SIOCETHTOOL,
            struct.pack("16sP", device.encode(), value.buffer_info()[0]) + b"\0" * 16,
        )
