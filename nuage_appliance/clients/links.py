"""Veth pairs of the host.

Owns the pairs that are to be made, marked and deleted. Deleting one veth holds the caller in the kernel for some 20 ms, so
nothing here runs on the gevent hub: every message is sent from a native thread, in batches, and deletions are gathered into
a device group that the kernel takes down at once. Must never delete a device that is not a veth of ours.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import random
import socket
import struct
from collections.abc import Callable

import gevent
import gevent.event
import gevent.queue
from gevent import monkey
from gevent.threadpool import ThreadPool

from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
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

_log = logging.getLogger(__name__)

_GATHER_S = 0.004
_LARGEST_BATCH = 256
_LARGEST_CREATION = 64
_LONGEST_QUEUE = 20_000
_PIECE, _BREATH_S = 200, 0.001
_native_sleep = monkey.get_original("time", "sleep")


class _Batches:
    """Gathers what greenlets want done while a native thread is busy, and does it all in the thread's next visit."""

    def __init__(self, run: Callable[[list], list], limit: int) -> None:
        self._run, self._limit = run, limit
        self._wanted: list[tuple[object, gevent.event.AsyncResult]] = []
        self._is_running = False

    def submit(self, job: object) -> None:
        """Have one job done; raises what it failed with. Switches greenlets."""
        result = gevent.event.AsyncResult()
        self._wanted.append((job, result))
        if not self._is_running:
            self._is_running = True
            gevent.spawn(self._work)
        error = result.get()
        if error is not None:
            raise error

    def _work(self) -> None:
        try:
            while self._wanted:
                batch, self._wanted = self._wanted[: self._limit], self._wanted[self._limit :]
                try:
                    errors = self._run([job for job, _ in batch])
                except Fault as fault:
                    errors = [fault] * len(batch)
                for (_, result), error in zip(batch, errors):
                    result.set(error)
        finally:
            self._is_running = False


@dataclasses.dataclass(frozen=True)
class _NewPair:
    pair: VethPair
    alias: str
    mtu: int
    mac: str
    checksum_offload: bool

    def messages(self) -> tuple[bytes, list[bytes]]:
        """What makes the pair, and what marks it, keeps IPv6 off it, and takes it up."""
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
        # The alias comes before everything else: a crash after it leaves a link that says whose it is.
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


def _create(jobs: list[_NewPair]) -> list[Fault | None]:
    """In a native thread: make the pairs; a pair that fails half-way is taken down again."""
    errors: list[Fault | None] = [None] * len(jobs)
    texts = [job.messages() for job in jobs]

    def fail(index: int, code: int) -> None:
        pair = jobs[index].pair
        errors[index] = (
            Conflict(f"the device {pair.bridge_port} or {pair.entity_port} exists already")
            if code == errno.EEXIST
            else _kernel_fault(f"create the veth pair {pair.bridge_port}", code)
        )

    with Netlink() as netlink:
        for index, code in netlink.carry_out([new for new, _ in texts]).items():
            fail(index, code)
        made = [index for index, error in enumerate(errors) if error is None]
        for number, code in netlink.carry_out(
            [message for index in made for message in texts[index][1]]
        ).items():
            if (
                number % 3 != 1
            ):  # a kernel without IPv6 refuses the second of the three; then there is nothing to keep off
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
                if errors[index]
            ]
        )
    return errors


def _mark_doomed(devices: list[str]) -> list[Fault | None]:
    """In a native thread: mark links as being deleted."""
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
            else _kernel_fault(f"mark the device {devices[index]}", code)
        )
    return errors


def _kernel_fault(what: str, code: int) -> Unavailable:
    hint = (
        "; the appliance needs root and CAP_NET_ADMIN"
        if code in (errno.EPERM, errno.EACCES)
        else ""
    )
    return Unavailable(f"the kernel did not {what}: {os.strerror(code)}{hint}")


class Links:
    """The host's veth pairs. All methods may switch greenlets, none blocks the hub."""

    def __init__(self, rng: random.Random | None = None, threads: int = 4) -> None:
        self._pool = ThreadPool(threads)
        self._creations = _Batches(
            lambda jobs: self._run("create veth pairs", _create, jobs), _LARGEST_CREATION
        )
        self._marks = _Batches(
            lambda devices: self._run("mark links", _mark_doomed, devices), _LARGEST_BATCH
        )
        self._to_delete: gevent.queue.Queue = gevent.queue.Queue(maxsize=_LONGEST_QUEUE)
        self._rng = rng or random.SystemRandom()

    def list(self) -> list[Link]:
        """Every device of the host; complete or raises Unavailable."""
        return self._run("list the devices", self._list)

    def _list(self) -> list[Link]:
        links = []
        with Netlink() as netlink:
            bodies = netlink.dump()
        for count, body in enumerate(bodies):
            if count % _PIECE == _PIECE - 1:
                _native_sleep(
                    _BREATH_S
                )  # the hub waits for the interpreter's lock as long as this thread has work
            links.append(link_of(body))
        return links

    def create(
        self, pair: VethPair, alias: str, mtu: int, mac: str, checksum_offload: bool
    ) -> None:
        """Make the pair: the bridge port up, without IPv6, marked with `alias`; the entity port down, with `mac`.

        `mtu` in bytes, 0 for the kernel's default. Raises Conflict when one of the two names is taken (nothing is
        left behind), Unavailable when the kernel refuses.
        """
        self._creations.submit(_NewPair(pair, alias, mtu, mac, checksum_offload))

    def exists(self, device: str) -> bool:
        """True when the host has a device of that name now."""
        return self._run(f"look for the device {device}", self._exists, device)

    def _exists(self, device: str) -> bool:
        with Netlink() as netlink:
            return netlink.kind_of(device) is not None

    def delete_later(self, device: str, then: Callable[[], None] = lambda: None) -> None:
        """Delete the pair of a bridge port of ours soon, together with others, and call `then` when it is gone.

        Returns before it is gone; a device that is gone already is success. Raises Unavailable when 20,000 are waiting.
        """
        self._own(device)
        # Marked first: when the process dies before the kernel is through, the next start knows that nobody wants it.
        try:
            self._marks.submit(device)
        except NotFound:
            then()
            return
        try:
            self._to_delete.put_nowait((device, then))
        except gevent.queue.Full:
            raise Unavailable(
                f"{_LONGEST_QUEUE} links wait for deletion; the kernel is too slow"
            ) from None

    def serve_deletions(self) -> None:
        """The greenlet that deletes what delete_later was given; never returns."""
        while True:
            batch = [self._to_delete.get()]
            gevent.sleep(_GATHER_S)
            while len(batch) < _LARGEST_BATCH and not self._to_delete.empty():
                batch.append(self._to_delete.get_nowait())
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
        with Netlink() as netlink:
            ours = [name for name in names if netlink.kind_of(name) == "veth"]
            failed = netlink.carry_out(
                [
                    message(RTM_SETLINK, 0, text(IFLA_IFNAME, name) + attribute(IFLA_GROUP, group))
                    for name in ours
                ]
            )
            if len(failed) == len(ours):
                return
            code = netlink.carry_out([message(RTM_DELLINK, 0, attribute(IFLA_GROUP, group))]).get(
                0, 0
            )
            if code and code != errno.ENODEV:
                raise OSError(code, os.strerror(code))

    @staticmethod
    def _own(device: str) -> None:
        if not VethPair.is_bridge_port(device):
            raise Refused(
                f"the device {device!r} is not a bridge port of this driver; only nln…-1 may be changed"
            )

    def _run(self, what: str, work, *arguments):
        # A thread of gevent's pool prints what it does not catch, so failures come back as values.
        value, error = self._pool.apply(_attempt, (work, arguments))
        if error is None:
            return value
        if isinstance(error, OSError):
            raise _kernel_fault(what, error.errno or errno.EIO) from error
        raise error


def _attempt(work, arguments):
    try:
        return work(*arguments), None
    except (OSError, Fault) as error:
        return None, error
