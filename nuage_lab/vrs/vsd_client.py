"""Asks the VSD simulator on its admin socket, in threads of its own.

Every answer goes to the owner's queue: ("resolved", key, answer or None), ("endpoints", list or
None), ("segments", list or None), ("vsd", "back" | "changes" | "all", changes). None means that the
VSD could not be asked.
"""

import itertools
import queue
import threading
import time
import urllib.parse

from nuage_lab.hosts.http_unix import UnixConnection, call

WORKERS = 4
CALL_TIMEOUT_S = 5.0
POLL_S = 5  # the VSD takes each poll as a sign of life of the VRS
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 1.0


class VsdClient:
    """Owns the threads and the queue of requests."""

    def __init__(self, path, answers, vrs_id=""):
        self.path = path
        self._vrs = f"vrs_id={urllib.parse.quote(vrs_id, safe='')}"
        self.answers = answers
        self._jobs = queue.PriorityQueue()
        self._numbers = itertools.count()

    def start(self):
        """Start the threads; returns at once."""
        for number in range(WORKERS):
            threading.Thread(target=self._work_for_ever, name=f"vsd-{number}", daemon=True).start()
        threading.Thread(target=self._watch_for_ever, name="vsd-changes", daemon=True).start()

    # -- requests; each returns at once

    def resolve(self, key, is_first):
        """Ask what a key resolves to; the first time is more urgent than a refresh."""
        self._put(0 if is_first else 2, self._resolve, key)

    def report(self, report):
        """Report the state of an entity; there is no answer."""
        self._put(1, self._report, report)

    def read_endpoints(self):
        """Ask for the running endpoints of all hosts."""
        self._put(0, self._read_list, ("endpoints", "/vsc/endpoints", "endpoints"))

    def read_segments(self):
        """Ask for all networks."""
        self._put(0, self._read_list, ("segments", "/vsc/networks", "subnets"))

    def _put(self, urgency, job, argument):
        self._jobs.put((urgency, next(self._numbers), job, argument))

    # -- on the workers' threads

    def _work_for_ever(self):
        connection = UnixConnection(self.path, CALL_TIMEOUT_S)
        while True:
            _, _, job, argument = self._jobs.get()
            job(connection, argument)

    def _call(self, connection, method, target, body=None):
        """Return the decoded 200 answer, else None.

        Opens a connection that the VSD has closed meanwhile once more.
        """
        for _ in range(2):
            was_open = connection.sock is not None
            try:
                status, answer = call(self.path, method, target, body, connection=connection)
                return answer if status == 200 else None
            except OSError:
                connection.close()
                if not was_open:
                    return None
        return None

    def _resolve(self, connection, key):
        answer = self._call(connection, "POST", "/vsc/resolve", {"uuid": key[0], "mac": key[1]})
        self.answers.put(("resolved", key, answer))

    def _report(self, connection, report):
        self._call(connection, "POST", "/vsc/report", report)

    def _read_list(self, connection, argument):
        kind, target, member = argument
        answer = self._call(connection, "GET", target)
        self.answers.put((kind, None if answer is None else answer[member]))

    # -- the changes, on a thread

    def _watch_for_ever(self):
        since, pause = None, FIRST_PAUSE_S
        while True:
            target = f"/vsc/changes?{self._vrs}"
            if since is not None:
                target += f"&since={since}&timeout={POLL_S}"
            try:
                status, answer = call(self.path, "GET", target, timeout=POLL_S + CALL_TIMEOUT_S)
            except OSError:
                status = None
            if status != 200:
                since = None
                time.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_S)
                continue
            pause = FIRST_PAUSE_S
            if since is None:
                self.answers.put(("vsd", "back", []))
            elif answer["lost"]:
                self.answers.put(("vsd", "all", []))
            elif answer["changes"]:
                self.answers.put(("vsd", "changes", answer["changes"]))
            since = answer["seq"]
