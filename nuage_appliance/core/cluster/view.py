"""What this host knows of the cluster's networks: Consul's records, and everybody's notes.

Owns both. Must never offer a part of what Consul has for the whole. Everything that calls Consul
may switch greenlets.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.core.cluster.records import (
    Malformed,
    Record,
    Replica,
    encode_replicas,
    is_key,
    read_replicas,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.cluster_store import ClusterStore

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Known:
    """A record, and the index that a compare-and-set of its key needs."""

    record: Record
    index: int


class View:
    """The cluster's networks as this host knows them.

    By the name of a network: `records` has what Consul has, `unreadable` why a record cannot be
    read, `mine` what this host notes. `others` has the other hosts' notes, by host and name.

    `mine` is changed in place by whoever acts, and written by write_notes(). It is read from Consul
    once, after a start: from then on this process knows better than its own notes in Consul.
    """

    def __init__(self, store: ClusterStore, host_id: Callable[[], str]) -> None:
        self._store = store
        self._host_id = host_id
        self.records: dict[str, Known] = {}
        self.unreadable: dict[str, str] = {}
        self.mine: dict[str, Replica] = {}
        self.others: dict[str, dict[str, Replica]] = {}
        self._is_mine_read = False
        self._written: bytes | None = None  # this host's notes in Consul; None: there are none

    def read(self) -> None:
        """Read the cluster's networks and every host's notes. Raises Fault.

        Then nothing changed.
        """
        records: dict[str, Known] = {}
        unreadable: dict[str, str] = {}
        for one in self._store.networks():
            try:
                if not is_key(one.name) or not one.is_proper:
                    raise Malformed("its last part is not the name of a network")
                records[one.name] = Known(Record.read(one.name, one.entry.value), one.entry.index)
            except Malformed as reason:
                unreadable[one.name] = f"what Consul has as {one.key} is left alone: {reason}"
        others = {host: read_replicas(value) for host, value in self._store.replicas().items()}
        for name, why in unreadable.items():
            if self.unreadable.get(name) != why:
                _log.error("%s", why)
        self.records = records
        self.unreadable = unreadable
        self.others = others
        noted = others.pop(self._host_id(), None)
        if not self._is_mine_read:
            self.mine = noted or {}
            self._is_mine_read = True
        self._written = None if noted is None else encode_replicas(noted)

    def write_notes(self) -> None:
        """Write this host's notes to Consul, when they are not what it has. Raises Fault."""
        text = encode_replicas(self.mine)
        if text == self._written or (not self.mine and self._written is None):
            return
        notes = {name: replica.to_json() for name, replica in sorted(self.mine.items())}
        self._store.write_replicas(self._host_id(), notes)
        self._written = text

    def is_unchanged(self, name: str, record: Record) -> bool:
        """Read one record again, before something is done for its sake: is it what it was?

        Raises Fault.
        """
        entry = self._store.network(name)
        if entry is None:
            return False
        try:
            fresh = Record.read(name, entry.value)
        except Malformed:
            return False
        return (fresh.incarnation, fresh.is_removed, fresh.gone) == (
            record.incarnation,
            record.is_removed,
            record.gone,
        )

    def used_names(self) -> set[str]:
        """The names of which any host has a trace."""
        return {name for replicas in (self.mine, *self.others.values()) for name in replicas}
