"""The tags in the VRS that remember this host's networks over a restart.

Owns which tags could not be written or removed yet. Must never write a tag from memory that is
older than the VRS's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault
from nuage_appliance.model import Network

if TYPE_CHECKING:
    from nuage_appliance.clients.vrs import Vrs

_log = logging.getLogger(__name__)


class NetworkTags:
    """One tag for each network. Writing may switch greenlets."""

    def __init__(self, vrs: Vrs) -> None:
        self._vrs = vrs
        # What the VRS has to be given yet, by network id: the network, or None when its tag is to
        # be removed. An entry is made before the transaction, because the mirror may be read while
        # that runs: then it wins over what the mirror says. At most one for each network.
        self._unwritten: dict[str, Network | None] = {}
        # Ids of the networks whose tag some greenlet is just writing; no other one needs to.
        self._being_written: set[str] = set()

    def write(self, network_id: str, network: Network | None, deadline: Deadline) -> None:
        """Write a network's tag, or remove it for None; what fails is kept for write_late.

        Never fails.
        """
        self._unwritten[network_id] = network
        self._being_written.add(network_id)
        try:
            if network is not None:
                self._vrs.remember(network, deadline)
            else:
                self._vrs.forget(network_id, deadline)
        except Fault as fault:
            _log.warning(
                "the tag of network %s is not in the VRS yet: %s", network_id[:12], fault.message
            )
        else:
            # Another greenlet may have asked for something else meanwhile.
            if network_id in self._unwritten and self._unwritten[network_id] is network:
                del self._unwritten[network_id]
        finally:
            self._being_written.discard(network_id)

    def is_written(self, network_id: str) -> bool:
        """True when the VRS's word about a network counts: nothing is to be written for it."""
        return network_id not in self._unwritten

    def write_late(self, deadline: Deadline) -> None:
        """Write and remove what could not be written or removed before. Never fails."""
        late = {
            key: network
            for key, network in self._unwritten.items()
            if key not in self._being_written
        }
        for network_id, network in late.items():
            self.write(network_id, network, deadline)
