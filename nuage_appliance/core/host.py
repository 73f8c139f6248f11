"""Who this host is on the VSD: the external id of its containers, kept over restarts.

Owns the id and the file that remembers it. A changed id would orphan every container of the host,
so a change is logged as an error.
"""

from __future__ import annotations

import logging
import os

from nuage_appliance.base import files

_log = logging.getLogger(__name__)


class HostIdentity:
    """The external id: the key `hostid`, else `<host name>-<system id of the VRS>` (vrs §9).

    `configured` is `hostid`, or empty; `state_directory` is where the id of the last run is kept.
    """

    def __init__(self, configured: str, hostname: str, state_directory: str) -> None:
        self._configured = configured
        self._hostname = hostname
        self._file = os.path.join(state_directory, "host-id")
        self._external_id = configured

    @property
    def external_id(self) -> str:
        """The id that this host's containers have on the VSD; empty until it is known."""
        return self._external_id

    def recall(self) -> None:
        """Take the id of the last run, unless one is configured: then no call waits for the VRS."""
        self._external_id = self._configured or self._remembered()

    def learn(self, system_id: str, predecessor_token: str) -> bool:
        """Take the id that belongs to a VRS's system id, and remember it; True when it changed.

        `predecessor_token` is what the predecessor used for the system id, or empty. A configured
        id stays. Does not switch greenlets; blocks while the disk writes.
        """
        before = self._external_id
        if not self._configured:
            self._external_id = self._derive(system_id, predecessor_token)
        return self._external_id != before

    def _derive(self, system_id: str, predecessor_token: str) -> str:
        external_id = f"{self._hostname}-{system_id}"
        if predecessor_token not in ("", system_id):
            _log.info(
                "the predecessor would have called this host %s-%s; "
                "set hostid to that to keep its containers",
                self._hostname,
                predecessor_token,
            )
        before = self._remembered()
        if before and before != external_id:
            _log.error(
                "this host was %s on the VSD and is %s now: "
                "the audit labels running containers anew; "
                'set hostid: "%s" to keep the others',
                before,
                external_id,
                before,
            )
        if before != external_id:
            self._remember(external_id)
        return external_id

    def _remembered(self) -> str:
        """The id of the last run; empty when there is none that can be read."""
        try:
            with open(self._file, encoding="utf-8") as stream:
                return stream.read().strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def _remember(self, external_id: str) -> None:
        try:
            files.replace(self._file, external_id + "\n")
        except OSError as error:
            _log.warning("the host id cannot be kept in %s: %s", self._file, error.strerror)
