"""The mirror of one OVSDB table.

Owns rows as a monitor sends them (RFC 7047 §4.1.6), with maps as dicts, and an index over one
column. Must never switch greenlets.
"""

from __future__ import annotations

import sys
from typing import Any


def members(value: Any) -> list[Any]:
    """The members of a set; a set of one member comes as the bare member (vrs §6)."""
    if isinstance(value, list) and value and value[0] == "set":
        found: list[Any] = value[1]
        return found
    return [value]


class Table:
    """The mirror of one table, with an index over the column `key`; without a key, no index.

    `rows` holds each row by its UUID. `_index` holds the UUIDs by each value of the key column: by
    each member when the column is a set.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key
        self.rows: dict[str, dict[str, Any]] = {}
        self._index: dict[str, set[str]] = {}

    def put(self, uuid: str, row: dict[str, Any]) -> None:
        """Insert or replace a row."""
        for column, value in row.items():
            if isinstance(value, list) and value and value[0] == "map":
                # Interned, the keys that all rows share take a quarter of the memory.
                row[column] = {sys.intern(key): item for key, item in value[1]}
        before = self.rows.get(uuid)
        self.rows[uuid] = row
        if self._key is None or (before is not None and before[self._key] == row[self._key]):
            return
        if before is not None:
            self._unindex(self._key, uuid, before)
        for value in members(row[self._key]):
            self._index.setdefault(value, set()).add(uuid)

    def drop(self, uuid: str) -> dict[str, Any] | None:
        """Remove a row and return it; None when there is none."""
        row = self.rows.pop(uuid, None)
        if row is not None and self._key is not None:
            self._unindex(self._key, uuid, row)
        return row

    def _unindex(self, key: str, uuid: str, row: dict[str, Any]) -> None:
        for value in members(row[key]):
            uuids = self._index.get(value, set())
            uuids.discard(uuid)
            if not uuids:
                self._index.pop(value, None)

    def named(self, value: str) -> dict[str, dict[str, Any]]:
        """The rows whose key column is `value`, or a set with it, by UUID."""
        return {uuid: self.rows[uuid] for uuid in self._index.get(value, ())}

    def first(self, value: str) -> dict[str, Any] | None:
        """One row whose key column is `value`, or a set with it."""
        return next((self.rows[uuid] for uuid in self._index.get(value, ())), None)

    def names(self) -> set[str]:
        """All values of the key column."""
        return set(self._index)
