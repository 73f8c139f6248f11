"""Whole lists of the VSD, read page by page.

Owns nothing. Must never return a part of a list for the whole: what is missing in a list is taken
for gone. Everything may switch greenlets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Unavailable
from nuage_appliance.clients.vsd_http import Answer

_PAGE_SIZE = 500
_MOST_PAGES = 10_000
_READINGS = 3

# Makes one GET of (path, deadline, headers).
_Get = Callable[[str, Deadline, dict[str, str]], Answer]


class _Reading:
    """One reading of a list, from its last page to its first.

    Objects come and go while the pages are read, and the VSD numbers the pages anew for each
    request. Sorted by the time of creation, an object that is made meanwhile comes after the end
    and moves no other. One that is deleted moves every later object towards the front: to a page
    with a smaller number. Read from the front, such an object would slip past the reader, from a
    page that is still to come to one that is done. Read from the back it cannot: what slips comes
    to a page that is still to be read, and at worst is seen twice.

    `X-Nuage-Count` in each answer says how many objects there were at that moment. The smallest
    count of all pages is a lower bound for what a whole list holds: a reading with fewer objects is
    incomplete, and is repeated.
    """

    def __init__(self, get: _Get, name: str, path: str, filter_: str | None) -> None:
        self._get = get
        self._name = name
        self._path = path
        self._filter = filter_
        self._size = _PAGE_SIZE
        self.found: dict[str, dict[str, Any]] = {}
        self.expected = 1 << 62

    def read(self, deadline: Deadline) -> None:
        """Read every page; fills `found` (by id) and `expected`."""
        first = self._page(0, deadline)
        if 0 < first < min(self._size, self.expected):
            self._size = first  # the VSD caps the page size; go on in its own
        if first and self.expected > self._size:
            pages = min(_MOST_PAGES, -(-self.expected // self._size))
            for page in range(pages - 1, -1, -1):
                self._page(page, deadline)

    def _page(self, page: int, deadline: Deadline) -> int:
        headers = {
            "X-Nuage-Page": str(page),
            "X-Nuage-PageSize": str(self._size),
            "X-Nuage-OrderBy": "creationDate ASC",
        }
        if self._filter is not None:
            headers["X-Nuage-Filter"] = self._filter
            headers["X-Nuage-FilterType"] = "predicate"
        answer = self._get(self._path, deadline, headers)
        objects = answer.objects()
        try:
            count = int(answer.headers.get("X-Nuage-Count", ""))
        except ValueError:  # no VSD answers a list so: also an empty one has its count
            raise Unavailable(
                f"{self._name} answered the list {_resource(self._path)} without a count of its "
                "objects",
                sent=True,
            ) from None
        self.expected = min(self.expected, count)
        for item in objects:
            self.found[str(item.get("ID"))] = item
        return len(objects)


def read_list(
    get: _Get, name: str, path: str, filter_: str | None, deadline: Deadline
) -> list[dict[str, Any]]:
    """Every object of the collection at `path`; complete or raises Unavailable.

    An object that is deleted or made while the list is read may be in it or not. `get` makes one
    GET; `name` is the VSD's in messages.
    """
    seen: dict[str, dict[str, Any]] = {}
    for _ in range(_READINGS):
        reading = _Reading(get, name, path, filter_)
        reading.read(deadline)
        if len(reading.found) >= reading.expected:
            return list(reading.found.values())
        seen.update(reading.found)
        if len(seen) >= reading.expected:
            return list(seen.values())
    raise Unavailable(
        f"the list {_resource(path)} of {name} is incomplete: "
        f"{len(seen)} of {reading.expected} objects"
    )


def _resource(path: str) -> str:
    return path.split("?")[0]
