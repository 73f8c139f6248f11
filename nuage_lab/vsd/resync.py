"""Owns resyncs of containers, and the deletion of those that no controller reports (vsd §11.8).

Never asks a controller itself: the controller reads the journal and answers through its report.
"""

import time

from .auth import SYSTEM
from .errors import conflict
from .store import now_ms

_COLUMNS = ("lastTimeResyncInitiated", "status", "lastRequestTimestamp")


class Resyncs:
    """Handler of the resource `containerresync`."""

    def __init__(self, store, settings, timers, containers):
        self._store = store
        self._settings = settings
        self._timers = timers
        self._containers = containers
        self._subnet_times = {}

    def create(self, parent, caller):
        """Start the resync of a container, or of all containers of a subnet, and return its object.

        Raises 409/2715 while one is in progress, or too soon after the last one of a subnet.
        """
        if parent.resource.rest_name == "subnet":
            self._check_subnet_interval(parent)
            for container in list(self._store.within("container", parent.id)):
                if container.values["resyncInfo"]["status"] != "IN_PROGRESS":
                    self._begin(container, caller)
        elif parent.values["resyncInfo"]["status"] == "IN_PROGRESS":
            raise _in_progress()
        for old in list(self._store.within("containerresync", parent.id)):
            if old.parent is parent:
                self._store.remove(old, caller)
        if parent.resource.rest_name == "container":
            return self._begin(parent, caller)
        values = {
            "status": "IN_PROGRESS",
            "lastRequestTimestamp": now_ms(),
            "lastTimeResyncInitiated": now_ms(),
        }
        return self._store.insert("containerresync", parent, values, caller)

    def go_on(self):
        """Wait again for the resyncs that were in progress when the process before ended."""
        for container in self._store.all("container"):
            if container.values["resyncInfo"]["status"] == "IN_PROGRESS":
                self._give_up_later(container)

    def answered(self, container):
        """Note that a controller has reported a container."""
        info = container.values["resyncInfo"]
        if info["status"] == "IN_PROGRESS":
            info["status"] = "SUCCESS"
            self._store.note(container)
            for resync in list(self._store.within("containerresync", container.id)):
                self._store.update(resync, {"status": "SUCCESS"}, SYSTEM)

    def _begin(self, container, caller):
        stamp = now_ms()
        container.values["resyncInfo"].update(
            zip(_COLUMNS, (stamp, "IN_PROGRESS", stamp), strict=True)
        )
        for old in list(self._store.within("containerresync", container.id)):
            self._store.remove(old, caller)
        values = {name: container.values["resyncInfo"][name] for name in _COLUMNS}
        resync = self._store.insert("containerresync", container, values, caller)
        self._store.note(container)
        self._give_up_later(container)
        return resync

    def _give_up_later(self, container):
        if self._settings.resync_deletion_s:
            stamp = container.values["resyncInfo"]["lastTimeResyncInitiated"]
            self._timers.later(self._settings.resync_deletion_s, self._give_up, container, stamp)

    def _give_up(self, container, stamp):
        info = container.values["resyncInfo"]
        is_same = info["status"] == "IN_PROGRESS" and info["lastTimeResyncInitiated"] == stamp
        if is_same and self._store.find("container", container.id) is container:
            self._containers.delete(container, SYSTEM)

    def _check_subnet_interval(self, subnet):
        last = self._subnet_times.get(subnet.id)
        if last is not None and time.monotonic() - last < self._settings.subnet_resync_interval_s:
            raise _in_progress()
        self._subnet_times[subnet.id] = time.monotonic()


def _in_progress():
    return conflict("Resync in progress", "A resynchronisation is already in progress.", code=2715)
