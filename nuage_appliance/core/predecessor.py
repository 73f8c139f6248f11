"""Pools of networks that the predecessor created: PoolIDs made of hashes (predecessor §5).

Owns those that were found out. Must never choose between two subnets that have the same hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Refused
from nuage_appliance.core.pools import pool_in
from nuage_appliance.core.subnets import Subnets
from nuage_appliance.model import EngineNetwork, Place, Pool, PredecessorPool

if TYPE_CHECKING:
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd


class PredecessorPools:
    """The pools by their old PoolIDs.

    A hash cannot be read back, so names that may be the right ones are hashed and compared: those
    of the engine's networks, then those in the rows that the predecessor left in the VRS (vrs
    §4.3), which have no zone.
    """

    def __init__(self, vsd: Vsd, vrs: Vrs, subnets: Subnets) -> None:
        self._vsd = vsd
        self._vrs = vrs
        self._subnets = subnets
        # By the whole PoolID; as many as there are networks of the predecessor.
        self._found: dict[str, Pool] = {}

    def get(self, pool_id: str) -> Pool | None:
        """A pool that was found out before. Does not switch greenlets."""
        return self._found.get(pool_id)

    def find(
        self,
        pool_id: str,
        parsed: PredecessorPool,
        described: Callable[[str], Iterable[EngineNetwork]],
        deadline: Deadline,
    ) -> Pool:
        """Find out what a PoolID means; `described` answers the engine's networks with a hash.

        Raises Refused when nobody knows the hash, or when two subnets have it; Unavailable. May
        switch greenlets.
        """
        known = self._found.get(pool_id)
        if known is None:
            known = self._find(parsed.digest, list(described(parsed.digest)), deadline)
            self._found[pool_id] = known
        return known

    def _find(self, digest: str, found: list[EngineNetwork], deadline: Deadline) -> Pool:
        if len({(network.place, network.cidr) for network in found}) > 1:
            names = ", ".join(sorted(network.name for network in found))
            raise Refused(
                f"the networks {names} share one pool id of the predecessor; "
                "create all but one of them anew"
            )
        if found:
            return self._subnets.pool_of(found[0], deadline)
        for port in self._vrs.ports().values() if self._vrs.is_ready else ():
            ids = port.external_ids
            place = Place(
                ids.get("NUAGE-ENTERPRISE", ""),
                ids.get("NUAGE-DOMAIN", ""),
                ids.get("NUAGE-ZONE", ""),
                ids.get("NUAGE-NETWORK", ""),
            )
            if place.subnet and place.predecessor_hash == digest:
                find = self._vsd.find_subnet if place.zone else self._vsd.find_subnet_anywhere
                return pool_in(find(place, deadline))
        raise Refused(
            f"no network of this engine has the pool {digest}-…; "
            "create the network anew with --ipam-driver=nuage-ipam"
        )
