"""Veth pairs of the host.

Owns the pairs that are to be made, marked and deleted. Must never delete a device that is not a
veth of ours.

Why native threads and batches. The kernel makes and deletes devices under one lock and inside the
system call: some 20 ms for the deletion of one veth, in which the caller stands still. On the
gevent hub that would hold every other greenlet. So each message is sent from a native thread of a
small pool. While one thread is busy, further wishes gather (`_Batches`) and go to the kernel
together.

Deletions cost the most, and nobody needs to wait for them: they are queued (`delete_later`), and
serve_deletions() takes what gathered in a few milliseconds, puts these devices into a device group
with a random number, and has the kernel delete the group: it then waits once for all instead of
once for each.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import logging
import random
from collections.abc import Callable
from typing import Generic, TypeVar

import gevent
import gevent.event
import gevent.queue
from gevent.threadpool import ThreadPool

from nuage_appliance.base.faults import Fault, NotFound, Refused, Unavailable
from nuage_appliance.clients import link_work
from nuage_appliance.model import Link, VethPair

_log = logging.getLogger(__name__)

_GATHER_S = 0.004
_LARGEST_BATCH = 256
_LARGEST_CREATION = 64
_LONGEST_QUEUE = 20_000
_Job = TypeVar("_Job")
_Value = TypeVar("_Value")


class _Batches(Generic[_Job]):
    """Gathers jobs while `run` is busy with earlier ones, and gives it at most `limit` at once.

    `run` returns for each job the fault that it failed with, or None.
    """

    def __init__(self, run: Callable[[list[_Job]], list[Fault | None]], limit: int) -> None:
        self._run = run
        self._limit = limit
        self._wanted: list[tuple[_Job, gevent.event.AsyncResult[Fault | None]]] = []
        self._is_running = False

    def submit(self, job: _Job) -> None:
        """Have one job done; raises what it failed with. Switches greenlets."""
        result: gevent.event.AsyncResult[Fault | None] = gevent.event.AsyncResult()
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
                batch = self._wanted[: self._limit]
                del self._wanted[: self._limit]
                try:
                    faults = self._run([job for job, _ in batch])
                except Fault as fault:
                    faults = [fault] * len(batch)
                for (_, result), outcome in zip(batch, faults, strict=True):
                    result.set(outcome)
        finally:
            self._is_running = False


class Links:
    """The host's veth pairs. All methods may switch greenlets, none blocks the hub.

    `threads` is how many native threads may wait for the kernel at once.
    """

    def __init__(self, rng: random.Random | None = None, threads: int = 4) -> None:
        self._pool = ThreadPool(threads)
        self._creations: _Batches[link_work.NewPair] = _Batches(
            lambda jobs: self._run("create veth pairs", lambda: link_work.create(jobs)),
            _LARGEST_CREATION,
        )
        self._marks: _Batches[str] = _Batches(
            lambda devices: self._run("mark links", lambda: link_work.mark_deleted(devices)),
            _LARGEST_BATCH,
        )
        self._to_delete: gevent.queue.Queue[tuple[str, Callable[[], None]]] = gevent.queue.Queue(
            maxsize=_LONGEST_QUEUE
        )
        self._rng = rng or random.SystemRandom()

    def list_devices(self) -> list[Link]:
        """Every device of the host; complete or raises Unavailable."""
        return self._run("list the devices", link_work.list_devices)

    def create(
        self, pair: VethPair, alias: str, mtu: int, mac: str, checksum_offload: bool
    ) -> None:
        """Make the pair: the bridge port up, without IPv6, with `alias`.

        The other end down, with `mac`. `mtu` in bytes, 0 for the kernel's default. Raises Conflict
        when one of the two names is taken, Unavailable when the kernel refuses; then nothing is
        left behind.
        """
        self._creations.submit(link_work.NewPair(pair, alias, mtu, mac, checksum_offload))

    def exists(self, device: str) -> bool:
        """True when the host has a device of that name now."""
        return self._run(f"look for the device {device}", lambda: link_work.exists(device))

    def delete_later(self, device: str, then: Callable[[], None] = lambda: None) -> None:
        """Delete the pair of a bridge port of ours soon, with others; call `then` when it is gone.

        Returns before it is gone; a device that is gone already is success. Raises Refused for any
        other device, Unavailable when 20,000 are waiting.
        """
        self._own(device)
        # Marked first: when the process dies before the kernel has deleted it, the next start knows
        # that nobody wants it.
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
                work = functools.partial(link_work.delete, names, self._rng)
                self._run(f"delete {len(names)} veth pairs", work)
            except Unavailable as fault:
                _log.warning("%s; the audit will try again", fault.message)
                continue
            for _, then in batch:
                then()

    @staticmethod
    def _own(device: str) -> None:
        if not VethPair.is_bridge_port(device):
            raise Refused(
                f"the device {device!r} is not a bridge port of this driver; "
                "only nln…-1 may be changed"
            )

    def _run(self, what: str, work: Callable[[], _Value]) -> _Value:
        """What `work` returns in a native thread; raises Unavailable for an OSError, and faults."""
        outcome: _Outcome[_Value] = self._pool.apply(_attempt, (work,))
        if isinstance(outcome.error, OSError):
            raise link_work.kernel_fault(what, outcome.error.errno or errno.EIO) from outcome.error
        if outcome.error is not None:
            raise outcome.error
        return outcome.values[0]


@dataclasses.dataclass(frozen=True)
class _Outcome(Generic[_Value]):
    """What a native thread returned, as a list of one value, or the error that it met."""

    values: list[_Value]
    error: OSError | Fault | None


def _attempt(work: Callable[[], _Value]) -> _Outcome[_Value]:
    """In a native thread; gevent's pool prints what its threads do not catch: so return it."""
    try:
        return _Outcome([work()], None)
    except (OSError, Fault) as error:
        return _Outcome([], error)
