"""Which pool, and so which VSD subnet, a PoolID and a NetworkID mean.

Owns the networks of this host; `subnets` and `tags` have what the VSD and the VRS know of them.
Must never need the engine to serve a call: it may ask it, for two seconds at most.

A PoolID describes itself. A NetworkID does not: CreateNetwork carries no PoolID (libnetwork §2.3),
and it is never guessed from an address. It is learnt in three steps, each of which may be missing:

1. RequestPool: the pool is pending for a minute.
2. CreateNetwork: if just one pending pool has the network's CIDR and space, it is this network's.
   With none (a restart in between) or several (two tenants with the same CIDR), the network is
   unclear.
3. The engine describes the network, with the options that it was created with: that settles an
   unclear network, and corrects what was assumed in step 2.

What is known is kept as a tag in the VRS, so that a restart needs no step again.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, NotFound, Refused
from nuage_appliance.core.engine_networks import EngineNetworks
from nuage_appliance.core.network_tags import NetworkTags
from nuage_appliance.core.pools import PendingPools, PoolRequest, read_ipam_data
from nuage_appliance.core.predecessor import PredecessorPools
from nuage_appliance.core.subnets import Subnets
from nuage_appliance.model import (
    GLOBAL_SPACE,
    EngineNetwork,
    Network,
    Pool,
    parse_pool_id,
    shorten,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.docker_engine import DockerEngine
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_SERIAL = "com.docker.network.ipam.serial"
_TAG_S = 2.0
_MOST_UNCLEAR = 1000


class Networks:
    """The networks and pools of this host.

    A method that does not say otherwise may switch greenlets.
    """

    def __init__(
        self, vsd: Vsd, vrs: Vrs, engine: DockerEngine, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._vsd = vsd
        self._vrs = vrs
        self._clock = clock
        self.subnets = Subnets(vsd)
        self._tags = NetworkTags(vrs)
        self._predecessor = PredecessorPools(vsd, vrs, self.subnets)
        # Networks whose pool is known, from whichever source, by network id: these are served. As
        # many as the host has; delete_network or the audit takes out what is not the engine's any
        # more.
        self._by_id: dict[str, Network] = {}
        # The engine's last description of each network of ours. One that is here, but not in
        # `_by_id`: its subnet was not found yet, or it is a swarm's, which only CreateNetwork
        # brings here.
        self._described = EngineNetworks(engine, clock)
        # Ids of networks that were created, but whose pool only the engine can say, oldest first
        # (the values mean nothing); at most 1,000, of which the oldest is forgotten. Empty again
        # when the engine has answered.
        self._unclear: dict[str, None] = {}
        # Pools between RequestPool and CreateNetwork; at most 1,000, each for a minute.
        self._pending = PendingPools(clock)

    # -- pools ------------------------------------------------------------------------------------

    def request_pool(
        self,
        space: str,
        pool: str,
        sub_pool: str,
        options: Mapping[str, str],
        is_v6: bool,
        deadline: Deadline,
    ) -> Pool:
        """The pool for a new network; every option was compared with the VSD (libnetwork §3.3).

        `pool` is --subnet and `sub_pool` --ip-range, as CIDR texts, or empty; `options` are those
        of --ipam-opt. Raises Refused, Unavailable.
        """
        asked_at = self._clock()
        request = PoolRequest.read(space, pool, sub_pool, options, is_v6)
        found = request.pool_in(self._vsd.find_subnet(request.place, deadline))
        if _SERIAL not in options:
            self._refuse_overlap(found, deadline)
            self._pending.refuse_overlap(
                found, request.is_automatic, asked_at, self.subnets.share_addresses
            )
        self._pending.add(found, request.is_automatic)
        return found

    def _refuse_overlap(self, pool: Pool, deadline: Deadline) -> None:
        """Raise Refused when a network of this engine has addresses of the pool already."""
        for network in list(self._by_id.values()):
            other = _try_pool(network.pool_id)
            if other is None or not self.subnets.share_addresses(other, pool):
                continue
            if other.space != pool.space and pool.space == GLOBAL_SPACE:
                continue
            if self._described.is_gone(network.network_id, deadline):
                self.delete_network(network.network_id, deadline)
                continue
            described = self._described.get(network.network_id)
            name = network.name or (described.name if described else "") or network.network_id[:12]
            raise Refused(
                f"network {shorten(name)} of this engine already uses {other.cidr} "
                f"of the VSD's {pool.place}; "
                "use that network, remove it, or give another --subnet inside of the VSD's"
            )

    def release_pool(self, pool_id: str) -> None:
        """Forget a pool that no network has claimed. Does not switch greenlets."""
        self._pending.forget(pool_id)

    def is_pending(self, pool: Pool) -> bool:
        """True between RequestPool and CreateNetwork. Does not switch greenlets."""
        return pool in self._pending and not any(
            network.pool_id == pool.pool_id for network in self._by_id.values()
        )

    def pool(self, pool_id: str, deadline: Deadline) -> Pool:
        """What a PoolID means.

        Raises Refused, Unavailable; only for a predecessor's PoolID anybody is asked.
        """
        parsed = parse_pool_id(pool_id)
        if isinstance(parsed, Pool):
            return parsed
        return self._predecessor.find(
            pool_id, parsed, lambda digest: self._with_hash(digest, deadline), deadline
        )

    def _with_hash(self, digest: str, deadline: Deadline) -> list[EngineNetwork]:
        """The described networks whose names have a hash; the engine is asked if there are none."""
        found = self._described.with_hash(digest)
        if not found:
            try:
                self.learn_all(self._described.ask_all(deadline))
            except Fault as fault:
                _log.debug("%s", fault.message)
            found = self._described.with_hash(digest)
        return found

    def subnet_ids_of(self, network_id: str) -> tuple[str, ...]:
        """Every VSD id of a network's subnet, as far as it is known. Does not switch greenlets."""
        network = self._by_id.get(network_id)
        if network is None:
            return ()
        pool = _try_pool(network.pool_id) or self._predecessor.get(network.pool_id)
        return () if pool is None else self.subnets.ids(pool)

    # -- networks ---------------------------------------------------------------------------------

    def create_network(
        self,
        network_id: str,
        options: Mapping[str, Any],
        ipv4: Sequence[Mapping[str, Any]],
        ipv6: Sequence[Any],
        deadline: Deadline,
    ) -> None:
        """Tie a new network to the pool that was requested for it (libnetwork §2.3).

        Repeating it is harmless.

        `ipv4` and `ipv6` are the call's lists of IPAM data, `options` its options. Raises Refused.
        """
        cidr, space = read_ipam_data(ipv4, ipv6)
        is_internal = options.get("com.docker.network.internal") is True
        if network_id in self._by_id:
            return
        self._described.note_created(network_id)
        pool = self._pending.claim(cidr, space)
        if pool is not None:
            self._keep(Network(network_id, pool.pool_id, is_internal), deadline)
        else:
            self._unclear[network_id] = None
            while len(self._unclear) > _MOST_UNCLEAR:
                del self._unclear[next(iter(self._unclear))]

    def allocate_network(self, ipv4: Sequence[Mapping[str, Any]]) -> Pool | None:
        """The pool of a network that a swarm manager allocates (libnetwork §2.11), or None.

        This host may never see an endpoint of it. Of several pools with the network's CIDR it is
        the one that was requested last. `ipv4` is the call's list of IPAM data. Does not switch
        greenlets.
        """
        return self._pending.claim_global({str(data.get("Pool") or "") for data in ipv4})

    def _keep(self, network: Network, deadline: Deadline) -> None:
        self._by_id[network.network_id] = network
        self._unclear.pop(network.network_id, None)
        self._tags.write(network.network_id, network, deadline)

    def delete_network(self, network_id: str, deadline: Deadline) -> None:
        """Forget a network; success when it is not known."""
        network = self._by_id.pop(network_id, None)
        self._described.forget(network_id)
        self._unclear.pop(network_id, None)
        if network is not None or (self._vrs.is_ready and network_id in self._vrs.networks()):
            self._tags.write(network_id, None, deadline)

    # -- looking up -------------------------------------------------------------------------------

    @property
    def all(self) -> dict[str, Network]:
        """A copy of the networks of this host, by network id. Does not switch greenlets."""
        return dict(self._by_id)

    def get(self, network_id: str) -> Network | None:
        """A network of this host, if its pool is known. Asks nobody; does not switch greenlets."""
        return self._by_id.get(network_id)

    def is_known(self, network_id: str) -> bool:
        """True for a network of ours, even if its pool is not known. Does not switch greenlets."""
        return (
            network_id in self._by_id
            or network_id in self._described
            or network_id in self._unclear
        )

    def look_up(self, network_id: str, deadline: Deadline) -> Network | None:
        """A network of ours: known, else tagged in the VRS, else described by the engine.

        The engine is asked for two seconds at most. None when nobody knows the network. Raises what
        Subnets.pool_of raises for one that only the engine knows.
        """
        known = self._by_id.get(network_id)
        if known is None and self._vrs.is_ready:
            known = self._vrs.networks().get(network_id)
            if known is not None:
                self._by_id[network_id] = known
        if known is not None:
            return known
        described = self._described.get(network_id) or self._described.ask(network_id, deadline)
        if described is None:
            return None
        self.learn(described)
        pool = self.subnets.pool_of(described, deadline)
        network = Network(network_id, pool.pool_id, described.is_internal, described.name)
        self._keep(network, deadline)
        return network

    # -- what engine and VRS say ------------------------------------------------------------------

    def learn_all(self, networks: Iterable[EngineNetwork]) -> None:
        """Take over a complete list of the engine's networks of ours, and forget what it lacks."""
        present = set()
        for network in networks:
            self.learn(network)
            present.add(network.network_id)
        self._described.keep_only(present)

    def learn(self, described: EngineNetwork) -> None:
        """Take over one network of the engine: confirm or correct what CreateNetwork made of it."""
        network_id = described.network_id
        self._described.put(described)
        known = self._by_id.get(network_id)
        if known is not None:
            self._correct(known, described)
        elif network_id in self._unclear:
            pool = self._pending.claim_on(described.place, described.cidr)
            if pool is not None:
                self._keep(
                    Network(network_id, pool.pool_id, described.is_internal, described.name),
                    Deadline(_TAG_S, self._clock),
                )

    def _correct(self, known: Network, described: EngineNetwork) -> None:
        pool = _try_pool(known.pool_id)
        if pool is not None and (
            pool.place != described.place
            or (described.cidr is not None and pool.cidr != described.cidr)
        ):
            _log.error(
                "network %s is on %s, not on %s as was assumed; corrected",
                described.name,
                described.place,
                pool.place,
            )
            del self._by_id[described.network_id]
        elif known.name != described.name:
            self._by_id[described.network_id] = dataclasses.replace(known, name=described.name)

    def settle(self, deadline: Deadline) -> None:
        """Give every network that the engine describes its pool and its tag; write missing tags.

        A network whose subnet the VSD does not have is left as it is. Raises Unavailable when the
        VRS cannot be asked.
        """
        for described in self._described:
            network_id = described.network_id
            # A manager lists the swarm's networks, but only CreateNetwork brings one to a node
            # (libnetwork §5.4).
            if network_id in self._by_id or not self._vsd.is_up or described.is_swarm:
                continue
            try:
                pool = self.subnets.pool_of(described, deadline)
                # The list may be older than a DeleteNetwork.
                self._described.check_exists(network_id, deadline)
            except NotFound:
                self._described.forget(network_id)
                continue
            except Fault as fault:
                _log.debug("network %s has no pool: %s", described.name, fault.message)
                continue
            if network_id in self._described and network_id not in self._by_id:
                network = Network(network_id, pool.pool_id, described.is_internal, described.name)
                self._keep(network, deadline)
        self.write_tags(deadline)

    def write_tags(self, deadline: Deadline) -> None:
        """Take over the VRS's tags, and write what it lacks; call it when the VRS is back.

        Raises Unavailable when the VRS cannot be asked.
        """
        tagged = self._vrs.networks()
        for network_id, network in tagged.items():
            if self._tags.is_written(network_id):
                self._by_id.setdefault(network_id, network)
        self._tags.write_late(deadline)
        for network_id, network in list(self._by_id.items()):
            if network_id not in tagged and self._tags.is_written(network_id):
                self._tags.write(network_id, network, deadline)


def _try_pool(pool_id: str) -> Pool | None:
    """The pool of a PoolID that describes itself; None for any other."""
    try:
        parsed = parse_pool_id(pool_id)
    except Refused:
        return None
    return parsed if isinstance(parsed, Pool) else None
