"""The networks that this host's engine removed, until the whole cluster knows it.

Owns the list of them and the file that keeps it over a restart while Consul is away. Must never
forget a removal that the cluster does not know: another host would make the network here again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from nuage_appliance.base.state_file import StateFile
from nuage_appliance.core.cluster.records import Replica, ReplicaState
from nuage_appliance.model import NetworkSpec

_MOST = 4096


@dataclasses.dataclass
class _Removal:
    """One removed network: what it was an incarnation of, and since when the cluster can know.

    `incarnation` is empty while it is unknown, `known_since_s` None while Consul does not have it.
    """

    incarnation: str = ""
    known_since_s: float | None = None


class Removals:
    """The removals that the engine reported.

    The life of one:

    1. `note`: the engine reports it; the cluster does not know it yet. Only its NetworkID is known.
    2. `resolve`: this host's notes say which incarnation had that NetworkID here. It must be kept
       now, because the notes lose the name as soon as the network is seen to be gone.
    3. `over` gives its NetworkID and incarnation to the decision, which writes the tombstones.
       While Consul is away the removal waits; `save` keeps it over a restart of the appliance.
    4. `mark_known`: a comparison went through, so Consul has it in writing. It is held a while
       longer all the same: a Consul that lost its data may be filled again by a host that still
       has the network, and then this host must say once more that it is removed.

    A network that the engine has (again) was not removed: `over` drops it.
    """

    def __init__(self, file: StateFile, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._by_network_id = {
            network_id: _Removal(incarnation) for network_id, incarnation in file.load().items()
        }

    def __contains__(self, network_id: str) -> bool:
        return network_id in self._by_network_id

    @property
    def are_any(self) -> bool:
        """True when there is any removal, known to the cluster or not."""
        return bool(self._by_network_id)

    @property
    def waiting(self) -> int:
        """How many the cluster does not know yet."""
        return sum(one.known_since_s is None for one in self._by_network_id.values())

    def note(self, network_id: str) -> bool:
        """Take over a removal; False when it is known already.

        The oldest of too many are dropped.
        """
        if network_id in self._by_network_id:
            return False
        self._by_network_id[network_id] = _Removal()
        while len(self._by_network_id) > _MOST:
            del self._by_network_id[next(iter(self._by_network_id))]
        return True

    def resolve(self, mine: Mapping[str, Replica]) -> None:
        """Note which incarnations they were, as long as this host's notes still have them."""
        for replica in mine.values():
            removal = self._by_network_id.get(replica.network_id)
            if (
                removal is not None
                and not removal.incarnation
                and replica.state is not ReplicaState.CONFLICT
            ):
                removal.incarnation = replica.incarnation

    def over(self, networks: Iterable[NetworkSpec]) -> frozenset[str]:
        """The incarnations that ended by a removal here; `networks` are what the engine has now."""
        for network in networks:
            self._by_network_id.pop(network.network_id, None)
        incarnations = {one.incarnation for one in self._by_network_id.values()}
        return frozenset(self._by_network_id) | (incarnations - {""})

    def mark_known(self, hold_s: float) -> None:
        """The cluster knows all of them; forget those that it has known for `hold_s` seconds."""
        now_s = self._clock()
        was_waiting = self.waiting > 0
        for removal in self._by_network_id.values():
            if removal.known_since_s is None:
                removal.known_since_s = now_s
        if was_waiting:
            self.save()
        self._by_network_id = {
            network_id: removal
            for network_id, removal in self._by_network_id.items()
            if removal.known_since_s is None or now_s - removal.known_since_s <= hold_s
        }

    def save(self) -> None:
        """Keep on disk what the cluster does not know yet."""
        self._file.save(
            {
                network_id: removal.incarnation
                for network_id, removal in self._by_network_id.items()
                if removal.known_since_s is None
            }
        )
