"""Owns the push events: the long poll on /events and the uuids by which clients resume (vsd §14).

Never records a change; it only reads the journal.
"""

import time
import uuid as uuids

import gevent

from .errors import malformed
from .listing import render_values


class EventDesk:
    """Answers GET /events. `answer` switches greenlets while it waits."""

    def __init__(self, simulator):
        self._simulator = simulator
        self._marks = {}  # by uuid: the journal's number to resume after, and when it was last used

    def answer(self, uuid, caller, release):
        """Return the reply body with what happened after `uuid`, or from now on without one.

        Waits until something happens or `event_timeout_s` is over; switches greenlets meanwhile.
        Raises ApiError 400 for a uuid that is unknown or too old: the client must then list
        everything again.
        """
        settings, journal = self._simulator.settings, self._simulator.journal
        seq = self._position(uuid)
        deadline = time.monotonic() + settings.event_timeout_s
        shown = []
        while not shown and journal.wait(seq, max(0, deadline - time.monotonic())):
            self._let_burst_end(seq)
            entries, is_lost = journal.since(seq)
            if is_lost:
                raise _unknown(uuid)
            entries = entries[: settings.event_max]
            seq = entries[-1].seq
            shown = [entry for entry in entries if caller.sees(entry.enterprise_id)]
        mark = str(uuids.uuid4())
        self._marks[mark] = (seq, time.monotonic())
        return {"events": list(self._grouped(shown, release)), "uuid": mark}

    def _position(self, uuid):
        oldest = time.monotonic() - self._simulator.settings.event_inactive_s
        for mark in [mark for mark, (_, seen) in self._marks.items() if seen < oldest]:
            del self._marks[mark]
        if uuid is None:
            return self._simulator.journal.seq
        if uuid not in self._marks:
            raise _unknown(uuid)
        seq, _ = self._marks[uuid]
        self._marks[uuid] = (seq, time.monotonic())
        return seq

    def _let_burst_end(self, seq):
        entries, _ = self._simulator.journal.since(seq)
        if entries:
            age_ms = time.time() * 1000 - entries[0].time_ms
            gevent.sleep(max(0, self._simulator.settings.event_interval_ms - age_ms) / 1000)

    def _grouped(self, entries, release):
        model = self._simulator.model.by_rest_name
        group, key = None, None
        for entry in entries:
            resource = model[entry.rest_name]
            if not resource.is_known_in(release):
                continue
            if key != (entry.op, entry.rest_name, entry.request_id):
                if group is not None:
                    yield group
                key = (entry.op, entry.rest_name, entry.request_id)
                group = {
                    "type": entry.op,
                    "entityType": entry.rest_name,
                    "entities": [],
                    "eventReceivedTime": entry.time_ms,
                    "requestID": entry.request_id,
                    "userName": entry.user_name,
                    "enterpriseName": entry.enterprise_name.lower(),
                    "updateMechanism": "DEFAULT",
                    "entityVersion": None,
                    "assoicatedEvent": False,
                    "diffMap": None,
                    "ignoreDiffInMediationEvents": False,
                }
            group["entities"].append(render_values(resource, entry.values, release))
        if group is not None:
            yield group


def _unknown(uuid):
    return malformed(f"The event uuid {uuid} is unknown or too old.", "uuid")
