"""Who this host is on the VSD: the external id of its containers, kept over restarts.

Owns the file that remembers it. A changed id would orphan every container of the host, so a change
is logged as an error.
"""

from __future__ import annotations

import logging
import os

from nuage_appliance.base import files

_log = logging.getLogger(__name__)


class HostIdentity:
    """The external id of this host (vrs §9).

    It is `hostid` of the configuration, else `<host name>-<system id of the VRS>`.
    """

    def __init__(self, configured: str, hostname: str, directory: str) -> None:
        self._configured, self._hostname = configured, hostname
        self._file = os.path.join(directory, "host-id")

    def remembered(self) -> str:
        """The configured id, else the one of the last run, else an empty text."""
        if self._configured:
            return self._configured
        try:
            with open(self._file, encoding="utf-8") as stream:
                return stream.read().strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def learn(self, system_id: str, predecessor_token: str) -> str:
        """Return the id for a VRS's system id; remember it, and log when it was another before."""
        if self._configured:
            return self._configured
        external_id = f"{self._hostname}-{system_id}"
        if predecessor_token not in ("", system_id):
            _log.info(
                "the predecessor would have called this host %s-%s; "
                "set hostid to that to keep its containers",
                self._hostname,
                predecessor_token,
            )
        before = self.remembered()
        if before and before != external_id:
            _log.error(
                "this host was %s on the VSD and is %s now: the audit gives containers that run "
                'the new id; set hostid: "%s" to keep the others',
                before,
                external_id,
                before,
            )
        if before != external_id:
            self._remember(external_id)
        return external_id

    def _remember(self, external_id: str) -> None:
        try:
            files.replace(self._file, external_id + "\n")
        except OSError as error:
            _log.warning("the host id cannot be kept in %s: %s", self._file, error.strerror)
