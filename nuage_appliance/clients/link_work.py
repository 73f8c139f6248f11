"""What native threads do to the host's links: one call here is one visit of a thread to the kernel.

Owns nothing. Runs in native threads only: must never log, switch greenlets, or use gevent's
sockets.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import socket
import struct

from gevent import monkey

from nuage_appliance.base.faults import Conflict, Fault, NotFound, Unavailable
from nuage_appliance.clients.netlink import (
    ADDR_GEN_NONE,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INET6_ADDR_GEN_MODE,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
    NLM_CREATE,
    NLM_EXCL,
    RTM_DELLINK,
    RTM_NEWLINK,
    RTM_SETLINK,
    VETH_INFO_PEER,
    Netlink,
    attribute,
    checksum_off,
    link_of,
    message,
    text,
)
from nuage_appliance.model import DELETED_ALIAS, Link, VethPair

_PIECE, _BREATH_S = 200, 0.001
_LOWEST_GROUP, _HIGHEST_GROUP = 1 << 16, 1 << 31
_native_sleep = monkey.get_original("time", "sleep")


@dataclasses.dataclass(frozen=True)
class NewPair:
    """A pair that is to be made, and how."""

    pair: VethPair
    alias: str
    mtu: int
    mac: str
    checksum_offload: bool

    def messages(self) -> tuple[bytes, list[bytes]]:
        """The message that makes the pair, and three: mark it, keep IPv6 off, take it up."""
        size = attribute(IFLA_MTU, struct.pack("=I", self.mtu)) if self.mtu else b""
        hardware = attribute(IFLA_ADDRESS, bytes.fromhex(self.mac.replace(":", "")))
        peer = (
            struct.pack("=BxHiII", 0, 0, 0, 0, 0)
            + text(IFLA_IFNAME, self.pair.entity_port)
            + size
            + hardware
        )
        info = attribute(IFLA_INFO_KIND, b"veth") + attribute(
            IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)
        )
        named = text(IFLA_IFNAME, self.pair.bridge_port)
        no_ipv6 = attribute(
            IFLA_AF_SPEC,
            attribute(
                socket.AF_INET6,
                attribute(IFLA_INET6_ADDR_GEN_MODE, struct.pack("=B", ADDR_GEN_NONE)),
            ),
        )
        # The alias comes first: a crash after it leaves a link that says whose it is.
        return (
            message(
                RTM_NEWLINK, NLM_CREATE | NLM_EXCL, named + size + attribute(IFLA_LINKINFO, info)
            ),
            [
                message(RTM_SETLINK, 0, named + attribute(IFLA_IFALIAS, self.alias.encode())),
                message(RTM_SETLINK, 0, named + no_ipv6),
                message(RTM_SETLINK, 0, named, up=True),
            ],
        )


def create(jobs: list[NewPair]) -> list[Fault | None]:
    """Make the pairs; one that fails half-way is deleted again. A fault, or None, for each."""
    errors: list[Fault | None] = [None] * len(jobs)
    texts = [job.messages() for job in jobs]

    def fail(index: int, code: int) -> None:
        pair = jobs[index].pair
        errors[index] = (
            Conflict(f"the device {pair.bridge_port} or {pair.entity_port} exists already")
            if code == errno.EEXIST
            else kernel_fault(f"create the veth pair {pair.bridge_port}", code)
        )

    with Netlink() as netlink:
        for index, code in netlink.carry_out([new for new, _ in texts]).items():
            fail(index, code)
        made = [index for index, error in enumerate(errors) if error is None]
        settings = [message for index in made for message in texts[index][1]]
        for number, code in netlink.carry_out(settings).items():
            # Three messages a pair. A kernel without IPv6 refuses the second; then there is nothing
            # to keep off.
            if number % 3 != 1:
                fail(made[number // 3], code)
        for index in made:
            if errors[index] is None and not jobs[index].checksum_offload:
                try:
                    checksum_off(jobs[index].pair.entity_port)
                except OSError as error:
                    fail(index, error.errno or errno.EIO)
        netlink.carry_out(
            [
                message(RTM_DELLINK, 0, text(IFLA_IFNAME, jobs[index].pair.bridge_port))
                for index in made
                if errors[index] is not None
            ]
        )
    return errors


def mark_deleted(devices: list[str]) -> list[Fault | None]:
    """Mark links as being deleted. A fault, or None, for each."""
    errors: list[Fault | None] = [None] * len(devices)
    with Netlink() as netlink:
        failed = netlink.carry_out(
            [
                message(
                    RTM_SETLINK,
                    0,
                    text(IFLA_IFNAME, device) + attribute(IFLA_IFALIAS, DELETED_ALIAS.encode()),
                )
                for device in devices
            ]
        )
    for index, code in failed.items():
        errors[index] = (
            NotFound(f"the device {devices[index]} does not exist")
            if code == errno.ENODEV
            else kernel_fault(f"mark the device {devices[index]}", code)
        )
    return errors


def kernel_fault(what: str, code: int) -> Unavailable:
    """What to raise when the kernel refused to do `what` with an errno."""
    hint = (
        "; the appliance needs root and CAP_NET_ADMIN"
        if code in (errno.EPERM, errno.EACCES)
        else ""
    )
    return Unavailable(f"the kernel did not {what}: {os.strerror(code)}{hint}")


def list_devices() -> list[Link]:
    """Every device of the host; complete or raises OSError."""
    links = []
    with Netlink() as netlink:
        bodies = netlink.dump()
    for count, body in enumerate(bodies):
        if count % _PIECE == _PIECE - 1:
            # As long as this thread has work, the hub waits for the interpreter's lock.
            _native_sleep(_BREATH_S)
        links.append(link_of(body))
    return links


def exists(device: str) -> bool:
    """True when the host has a device of that name."""
    with Netlink() as netlink:
        return netlink.kind_of(device) is not None


def delete(names: list[str], rng: random.Random) -> None:
    """Delete these devices if they are veth pairs; what is gone already is success."""
    # Nothing reserves a group. With a random number of 31 bits, another device of the host is in
    # the same group as rarely as two random MAC addresses are equal.
    group = attribute(IFLA_GROUP, struct.pack("=I", rng.randrange(_LOWEST_GROUP, _HIGHEST_GROUP)))
    with Netlink() as netlink:
        ours = [name for name in names if netlink.kind_of(name) == "veth"]
        failed = netlink.carry_out(
            [message(RTM_SETLINK, 0, text(IFLA_IFNAME, name) + group) for name in ours]
        )
        if len(failed) == len(ours):
            return
        code = netlink.carry_out([message(RTM_DELLINK, 0, group)]).get(0, 0)
        if code and code != errno.ENODEV:
            raise OSError(code, os.strerror(code))
