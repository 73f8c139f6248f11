"""Keeps the flows of a bridge as wanted, by ovs-ofctl, and sees when the switch has lost them."""

import os
import subprocess

from nuage_lab.vrs import flows as flow_rules

TIMEOUT_S = 20


class OpenFlow:
    """Owns every flow of the bridge whose management socket this is."""

    def __init__(self, socket_path):
        self.socket_path = socket_path
        self._installed = None  # the flows by match; None: unknown, so the next push replaces all
        self._switch = None  # the identity of the process that has them

    def is_stale(self):
        """Return whether the switch was restarted, and lost its flows, since the last push."""
        return self._installed is None or self._switch != self._identity()

    def push(self, wanted):
        """Make the switch's flows equal to {match: actions} in one atomic bundle.

        Returns a text with what went wrong, or None.
        """
        identity = self._identity()
        if identity is None:
            return f"{self.socket_path} is not there"
        if self.is_stale():
            verb = "replace-flows"
            lines = [f"{match},actions={actions}" for match, actions in wanted.items()]
        else:
            verb = "add-flows"
            lines = flow_rules.changes(self._installed, wanted)
            if not lines:
                return None
        problem = self._run(verb, lines)
        self._installed = None if problem else wanted
        self._switch = None if problem else identity
        return problem

    def _identity(self):
        # ovs-vswitchd binds the socket after each start, when it has made the bridge.
        try:
            status = os.stat(self.socket_path)
        except OSError:
            return None
        return status.st_ino, status.st_ctime_ns

    def _run(self, verb, lines):
        argv = ["ovs-ofctl", "--bundle", verb, f"unix:{self.socket_path}", "-"]
        try:
            done = subprocess.run(
                argv,
                input="\n".join(lines) + "\n",
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return done.stderr.strip()[-500:] if done.returncode else None
