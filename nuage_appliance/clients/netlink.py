"""rtnetlink: messages about links, and the socket that carries them.

Owns the numbers of the kernel's interface (linux/netlink.h, rtnetlink.h, if_link.h). For use in
native threads only: the kernel does its work inside the system call, which no cooperative socket
can shorten.

Layout of a message, all numbers in the byte order of the machine ("=" for struct: no padding):

======  =====  ============================================================  ======
offset  bytes  what (nlmsghdr, then ifinfomsg, then attributes)              struct
======  =====  ============================================================  ======
0       4      length of the whole message, header included                  "=I"
4       2      kind: RTM_NEWLINK, RTM_DELLINK, …                             "H"
6       2      flags: NLM_F_REQUEST always, NLM_F_ACK, NLM_F_DUMP, …         "H"
8       4      sequence number; an answer repeats it                         "I"
12      4      port id of the sender; 0: the kernel fills it in              "I"
16      1      address family; 0 for links                                   "=B"
17      1      padding                                                       "x"
18      2      ARP hardware type; 0 in requests                              "H"
20      4      index of the device; 0: it is named by IFLA_IFNAME            "i"
24      4      flags to set, such as IFF_UP                                  "I"
28      4      which of these flags are meant                                "I"
32      …      attributes
======  =====  ============================================================  ======

An attribute has 2 bytes of length (its own 4 bytes of header included, padding not), 2 bytes of
kind, the payload, and padding to a multiple of 4. Attributes nest: the payload of IFLA_LINKINFO is
a row of attributes, and so is IFLA_INFO_DATA inside it, whose VETH_INFO_PEER begins with an
ifinfomsg of its own.

Answers come as a row of such messages in one datagram: RTM_NEWLINK for each device, NLMSG_ERROR
with a negative errno (0 for "done") as the first 4 bytes after the header, NLMSG_DONE after a dump.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket as _patched_socket
import struct
from collections.abc import Iterator

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
_HEADER_FORMAT, _HEADER_BYTES = "=IHHII", 16
_LINK_FORMAT, _LINK_BYTES = "=BxHiII", 16
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TIMEOUT_S = 10


def attribute(kind: int, payload: bytes) -> bytes:
    """The bytes of one attribute, padded to a multiple of four."""
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def text(kind: int, value: str) -> bytes:
    """The bytes of an attribute that is a string."""
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, flags: int, attributes: bytes, up: bool = False) -> bytes:
    """The bytes of a message about a link; with `up`, of one that also takes it up."""
    flag = _IFF_UP if up else 0
    body = struct.pack(_LINK_FORMAT, _patched_socket.AF_UNSPEC, 0, 0, flag, flag) + attributes
    length = _HEADER_BYTES + len(body)
    return struct.pack(_HEADER_FORMAT, length, kind, flags | _NLM_REQUEST, 0, 0) + body


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

        Every system call of a native thread gives the interpreter's lock away and waits for it
        again, so their number counts. The kernel carries the messages out in their order, and
        answers each that fails. Only the last one asks for an answer in any case (NLM_F_ACK): when
        that comes, everything before is done. The sequence number of each is its index.
        """
        if not messages:
            return {}
        failed: dict[int, int] = {}
        last = len(messages) - 1
        stream = bytearray()
        for index, message in enumerate(messages):
            flags = struct.unpack_from("=H", message, 6)[0] | (_NLM_ACK if index == last else 0)
            stream += message[:6] + struct.pack("=HI", flags, index) + message[12:]
        self._socket.send(stream)
        while True:
            for kind, index, body in _split(self._socket.recv(1 << 18)):
                if kind != _NLMSG_ERROR:
                    continue
                code = _errno(body)
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
        """The bodies of all RTM_NEWLINK messages of a complete dump; raises OSError."""
        self._socket.send(message(_RTM_GETLINK, _NLM_DUMP, b""))
        bodies: list[bytes] = []
        while True:
            for kind, _, body in _split(self._socket.recv(1 << 18)):
                if kind == _NLMSG_DONE:
                    return bodies
                if kind == _NLMSG_ERROR:
                    code = _errno(body)
                    raise OSError(code, os.strerror(code))
                bodies.append(body)


def _errno(body: bytes) -> int:
    """The errno in the body of an NLMSG_ERROR; 0 is success."""
    code: int = struct.unpack_from("=i", body)[0]
    return -code


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The (kind, sequence number, body) of each message in a datagram."""
    offset = 0
    while offset + _HEADER_BYTES <= len(data):
        length, kind, _, sequence, _ = struct.unpack_from(_HEADER_FORMAT, data, offset)
        if length < _HEADER_BYTES:
            return
        yield kind, sequence, data[offset + _HEADER_BYTES : offset + length]
        offset += length + (-length % 4)


def _attributes(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """The (kind, payload) of each attribute from `offset` on; flag bits of the kind are cut off."""
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, body[offset + 4 : offset + length]
        offset += length + (-length % 4)


def link_of(body: bytes) -> Link:
    """Read the body of an RTM_NEWLINK: an ifinfomsg and attributes."""
    flags = struct.unpack_from("=I", body, 8)[0]
    name = alias = kind = ""
    group = mtu = 0
    for code, value in _attributes(body, _LINK_BYTES):
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
    """Switch off tx checksum offload of a device; raises OSError.

    The userspace datapath forwards unfinished checksums as they are. The ioctl takes a struct
    ifreq: 16 bytes of name, then a pointer to a struct ethtool_value (command, value), then
    padding.
    """
    value = array.array("B", struct.pack("II", _ETHTOOL_STXCSUM, 0))
    with _Socket(_patched_socket.AF_INET, _patched_socket.SOCK_DGRAM) as channel:
        fcntl.ioctl(
            channel,
            _SIOCETHTOOL,
            struct.pack("16sP", device.encode(), value.buffer_info()[0]) + b"\0" * 16,
        )
