"""What the Docker engine says of its networks that are ours.

Owns the last description of each. Must never hold up a call: the engine is asked for two seconds at
most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, NotFound
from nuage_appliance.model import EngineNetwork

if TYPE_CHECKING:
    from nuage_appliance.clients.docker_engine import DockerEngine

_log = logging.getLogger(__name__)

_CREATED_S = 60.0
_ENGINE_S = 2.0


class EngineNetworks:
    """The engine's networks of ours.

    A method that does not say otherwise does not switch greenlets.
    """

    def __init__(self, engine: DockerEngine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        # The last description, by network id. No more than the engine has: a complete list replaces
        # all.
        self._described: dict[str, EngineNetwork] = {}
        # When each network was created, by its id and the clock. For a minute, or until the engine
        # lists it, the engine's word that it does not have the network does not count: it creates
        # it only after CreateNetwork was answered.
        self._created: dict[str, float] = {}

    def __contains__(self, network_id: str) -> bool:
        return network_id in self._described

    def __iter__(self) -> Iterator[EngineNetwork]:
        return iter(list(self._described.values()))

    def get(self, network_id: str) -> EngineNetwork | None:
        """The last description of a network; None when the engine did not describe it."""
        return self._described.get(network_id)

    def with_hash(self, digest: str) -> list[EngineNetwork]:
        """The networks whose predecessor's PoolID begins with a hash."""
        return [network for network in self if network.place.predecessor_hash == digest]

    def note_created(self, network_id: str) -> None:
        """Note that CreateNetwork is about to be answered."""
        now_s = self._clock()
        self._created = {
            key: since_s for key, since_s in self._created.items() if now_s - since_s < _CREATED_S
        }
        self._created[network_id] = now_s

    def put(self, described: EngineNetwork) -> None:
        """Keep a description."""
        self._described[described.network_id] = described
        self._created.pop(described.network_id, None)

    def keep_only(self, network_ids: set[str]) -> None:
        """Forget the descriptions of what a complete list of the engine does not have."""
        for network_id in self._described.keys() - network_ids:
            del self._described[network_id]

    def forget(self, network_id: str) -> None:
        """Forget a network that was deleted."""
        self._described.pop(network_id, None)
        self._created.pop(network_id, None)

    def ask(self, network_id: str, deadline: Deadline) -> EngineNetwork | None:
        """Ask the engine for a network; None when it is not ours, or it cannot say.

        Never fails. Switches greenlets.
        """
        try:
            return self._engine.get_network(network_id, deadline.at_most(_ENGINE_S)).network
        except Fault as fault:
            _log.debug("%s", fault.message)
            return None

    def ask_all(self, deadline: Deadline) -> list[EngineNetwork]:
        """Ask the engine for all networks of ours. Raises Fault. Switches greenlets."""
        return self._engine.list_networks(deadline.at_most(_ENGINE_S))

    def is_gone(self, network_id: str, deadline: Deadline) -> bool:
        """True when the engine says for sure that it does not have the network.

        Never fails. Switches greenlets.
        """
        if self._clock() - self._created.get(network_id, -_CREATED_S) < _CREATED_S:
            return False
        try:
            self._engine.get_network(network_id, deadline.at_most(_ENGINE_S))
        except NotFound:
            return True
        except Fault:
            pass
        return False

    def check_exists(self, network_id: str, deadline: Deadline) -> None:
        """Raise NotFound when the engine does not have a network that it described, else Fault.

        Switches greenlets.
        """
        self._engine.get_network(network_id, deadline)
