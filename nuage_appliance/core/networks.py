"""Which VSD subnet a PoolID and a NetworkID mean.

Owns the networks of this host. A PoolID describes itself. A NetworkID is learnt when its network is created, confirmed
from the engine, and kept as a tag in the VRS; it is never guessed from an address. Must never need the engine to serve a
call: it may ask it, for two seconds at most.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, NotFound, Refused
from nuage_appliance.core.pools import PendingPools, check_gateway, read_cidr, read_options
from nuage_appliance.model import (
    GLOBAL_SPACE,
    LOCAL_SPACE,
    Cidr,
    EngineNetwork,
    Network,
    Pool,
    Subnet,
    Place,
    parse_pool_id,
    shorten,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.docker_engine import DockerEngine
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_SERIAL = "com.docker.network.ipam.serial"
_FOREIGN_SPACES = ("LocalDefault", "GlobalDefault", "default", "null")
_CREATED_S = 60.0
_ENGINE_S = 2.0
_MOST_UNCLEAR = 1000


class Networks:
    """The networks and pools of this host."""

    def __init__(
        self, vsd: Vsd, vrs: Vrs, engine: DockerEngine, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._vsd, self._vrs, self._engine, self._clock = vsd, vrs, engine, clock
        self._by_id: dict[str, Network] = {}
        self._described: dict[str, EngineNetwork] = {}
        self._unclear: dict[str, None] = {}
        self._pending = PendingPools(clock)
        self._moved: dict[str, Subnet] = {}
        self._old_pools: dict[str, Pool] = {}
        self._untagged: dict[str, Network | None] = {}
        self._tagging: set[str] = set()
        self._created: dict[str, float] = {}

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
        """The pool for a new network, after every option was compared with the VSD. Raises Refused, Unavailable. Switches."""
        if is_v6:
            raise Refused(
                "networks of this driver are IPv4 only: the VSD assigns their addresses; leave out --ipv6 and IPv6 subnets"
            )
        if space not in (LOCAL_SPACE, GLOBAL_SPACE, "local", "global", ""):
            raise Refused(
                f"the address space {shorten(space)} is not one of nuage-ipam's ({LOCAL_SPACE}, {GLOBAL_SPACE})"
            )
        place, user = read_options(options)
        asked = read_cidr(pool, "--subnet") if pool else None
        wanted_range = read_cidr(sub_pool, "--ip-range") if sub_pool else None
        subnet = self._vsd.find_subnet(place, deadline)
        values = f"the VSD's {place} is {subnet.cidr} with gateway {subnet.gateway}"
        check_gateway(subnet)
        if (
            asked is not None and int(asked.network_address) == 0
        ):  # engine 29: any pool of this size
            if asked.prefixlen != subnet.cidr.prefixlen:
                raise Refused(
                    f"--subnet {asked} asks for any subnet of size /{asked.prefixlen}, but {values}; leave --subnet out"
                )
            asked = None
        cidr = asked or subnet.cidr
        if not cidr.subnet_of(subnet.cidr):
            raise Refused(
                f"--subnet {cidr} does not match: {values}; use --subnet={subnet.cidr} --gateway={subnet.gateway}, or leave both out"
            )
        if wanted_range is not None and not wanted_range.subnet_of(cidr):
            raise Refused(f"--ip-range {wanted_range} is outside of {cidr}; {values}")
        if wanted_range == subnet.cidr:
            wanted_range = None
        found = Pool(
            space=space or LOCAL_SPACE,
            place=place,
            user=user,
            cidr=cidr,
            subnet_cidr=subnet.cidr,
            gateway=subnet.gateway,
            subnet_id=subnet.vsd_id,
            address_range=wanted_range,
        )
        if _SERIAL not in options:
            self._refuse_overlap(found, deadline)
            self._pending.refuse_overlap(found, asked is None, self._share_addresses)
        self._pending.add(found, asked is None)
        return found

    def _refuse_overlap(self, pool: Pool, deadline: Deadline) -> None:
        for network in list(self._by_id.values()):
            other = self._try_pool(network.pool_id)
            if other is None or not self._share_addresses(other, pool):
                continue
            if other.space != pool.space and pool.space == GLOBAL_SPACE:
                continue
            if self._is_gone(network.network_id, deadline):
                continue
            name = (
                network.name
                or self._described.get(network.network_id, network).name
                or network.network_id[:12]
            )
            raise Refused(
                f"network {shorten(name)} of this engine already uses {other.cidr} of the VSD's {pool.place}; "
                "use that network, remove it, or give another --subnet inside of the VSD's"
            )

    def _share_addresses(self, one: Pool, other: Pool) -> bool:
        """True for pools of one VSD subnet, whatever it was called when each was requested, that overlap."""
        is_same = one.place == other.place or self.subnet(one).vsd_id == self.subnet(other).vsd_id
        return is_same and one.cidr.overlaps(other.cidr)

    def _is_gone(self, network_id: str, deadline: Deadline) -> bool:
        """True when the engine says for sure that it has this network no more; then it is forgotten.

        A network that is just being created is not in the engine's lists yet, after CreateNetwork was answered.
        """
        if self._clock() - self._created.get(network_id, -_CREATED_S) < _CREATED_S:
            return False
        try:
            self._engine.get_network(network_id, Deadline(deadline.bound(_ENGINE_S), self._clock))
        except NotFound:
            self.delete_network(network_id, deadline)
            return True
        except Fault:
            pass
        return False

    def release_pool(self, pool_id: str) -> None:
        """Forget a pool that no network claimed; its network, if it has one, is forgotten by delete_network."""
        self._pending.release(pool_id)

    def is_pending(self, pool: Pool) -> bool:
        """True between RequestPool and CreateNetwork."""
        return pool in self._pending and not any(
            network.pool_id == pool.pool_id for network in self._by_id.values()
        )

    def pool(self, pool_id: str, deadline: Deadline) -> Pool:
        """What a PoolID means; raises Refused. Only a predecessor's PoolID asks anybody. May switch greenlets."""
        parsed = parse_pool_id(pool_id)
        if isinstance(parsed, Pool):
            return parsed
        known = self._old_pools.get(pool_id)
        if known is None:
            known = self._old_pools[pool_id] = self._predecessor_pool(parsed, deadline)
        return known

    @staticmethod
    def _try_pool(pool_id: str) -> Pool | None:
        try:
            parsed = parse_pool_id(pool_id)
        except Refused:
            return None
        return parsed if isinstance(parsed, Pool) else None

    def _predecessor_pool(self, digest: str, deadline: Deadline) -> Pool:
        def matches() -> list[EngineNetwork]:
            return [
                network
                for network in self._described.values()
                if network.place.predecessor_hash == digest
            ]

        if not matches():
            try:
                self.learn_all(
                    self._engine.list_networks(Deadline(deadline.bound(_ENGINE_S), self._clock))
                )
            except Fault as fault:
                _log.debug("%s", fault.message)
        found = matches()
        if len({(network.place, network.cidr) for network in found}) > 1:
            names = ", ".join(sorted(network.name for network in found))
            raise Refused(
                f"the networks {names} share one pool id of the predecessor; create all but one of them anew"
            )
        if found:
            return self._build(found[0], deadline)
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
                return self._pool_of(find(place, deadline), "", None, None)
        raise Refused(
            f"no network of this engine has the pool {digest}-…; create the network anew with --ipam-driver=nuage-ipam"
        )

    def _pool_of(
        self,
        subnet: Subnet,
        user: str,
        cidr: Cidr | None,
        address_range: Cidr | None,
        space: str = LOCAL_SPACE,
    ) -> Pool:
        check_gateway(subnet)
        if cidr is not None and not cidr.subnet_of(subnet.cidr):
            raise Refused(
                f"the network's subnet {cidr} is no longer the VSD's: {subnet.place} is {subnet.cidr}; create the network anew"
            )
        return Pool(
            space,
            subnet.place,
            user,
            cidr or subnet.cidr,
            subnet.cidr,
            subnet.gateway,
            subnet.vsd_id,
            address_range,
        )

    def _build(self, network: EngineNetwork, deadline: Deadline) -> Pool:
        subnet = self._vsd.find_subnet(network.place, deadline)
        return self._pool_of(
            subnet,
            network.user,
            network.cidr,
            network.address_range,
            LOCAL_SPACE if network.is_local else GLOBAL_SPACE,
        )

    def subnet(self, pool: Pool) -> Subnet:
        """The VSD subnet of a pool, from the PoolID, or as it was found again after it moved."""
        return self._moved.get(pool.subnet_id) or Subnet(
            pool.subnet_id, pool.place, pool.subnet_cidr, pool.gateway, ""
        )

    def find_subnet_again(self, pool: Pool, deadline: Deadline) -> Subnet:
        """Look the subnet up by its names, after the VSD lost its id. Raises Refused when it is another one now."""
        subnet = self._vsd.find_subnet(pool.place, deadline)
        if subnet.cidr != pool.subnet_cidr:
            raise Refused(
                f"the VSD's {pool.place} was made anew as {subnet.cidr}, but this network was created for {pool.subnet_cidr}; create the network anew"
            )
        if subnet.gateway != pool.gateway:
            raise Refused(
                f"the VSD's {pool.place} was made anew with gateway {subnet.gateway}, but this network was created for {pool.gateway}; "
                "create the network anew"
            )
        self._moved[pool.subnet_id] = subnet
        return subnet

    def subnet_ids(self, pool: Pool) -> tuple[str, ...]:
        """Every VSD id under which the pool's subnet was known."""
        moved = self._moved.get(pool.subnet_id)
        return (pool.subnet_id,) if moved is None else (moved.vsd_id, pool.subnet_id)

    def subnet_ids_of(self, network_id: str) -> tuple[str, ...]:
        """Every VSD id of a network's subnet, as far as it is known without asking anybody."""
        network = self._by_id.get(network_id)
        pool = (
            None
            if network is None
            else self._try_pool(network.pool_id) or self._old_pools.get(network.pool_id)
        )
        return () if pool is None else self.subnet_ids(pool)

    # -- networks ---------------------------------------------------------------------------------

    def create_network(
        self,
        network_id: str,
        options: Mapping[str, Any],
        ipv4: list[Mapping[str, Any]],
        ipv6: list[Any],
        deadline: Deadline,
    ) -> None:
        """Tie a new network to the pool that was requested for it. Raises Refused. Switches greenlets."""
        if ipv6:
            raise Refused(
                "networks of this driver are IPv4 only: the VSD assigns their addresses; leave out --ipv6 and IPv6 subnets"
            )
        if len(ipv4) != 1:
            raise Refused(
                f"the network has {len(ipv4)} IPv4 subnets; a network of this driver has exactly one, so give one --subnet or none"
            )
        data = ipv4[0]
        space = data.get("AddressSpace") or ""
        if space in _FOREIGN_SPACES:
            raise Refused(
                "the network driver nuage works only with its own IPAM driver; add --ipam-driver=nuage-ipam and the --ipam-opt options"
            )
        cidr = read_cidr(str(data.get("Pool") or ""), "Pool")
        is_internal = options.get("com.docker.network.internal") is True
        known = self._by_id.get(network_id)
        if known is not None:
            return
        now_s = self._clock()
        self._created = {
            key: since_s for key, since_s in self._created.items() if now_s - since_s < _CREATED_S
        } | {network_id: now_s}
        pool = self._pending.claim(cidr, space)
        if pool is not None:
            self._keep(Network(network_id, pool.pool_id, is_internal), deadline)
        else:
            # None after a restart in between, several when two tenants create the same CIDR at once: the engine will say.
            self._unclear[network_id] = None
            while len(self._unclear) > _MOST_UNCLEAR:
                del self._unclear[next(iter(self._unclear))]

    def allocate_network(self, ipv4: list[Mapping[str, Any]]) -> Pool | None:
        """Swarm manager: the pool of a network is in use now, but this host may never see an endpoint of it.

        Returns the pool: the one that was requested last with the network's CIDR.
        """
        return self._pending.claim_global({str(data.get("Pool") or "") for data in ipv4})

    def _keep(self, network: Network, deadline: Deadline) -> None:
        self._by_id[network.network_id] = network
        self._unclear.pop(network.network_id, None)
        self._tag(network.network_id, network, deadline)

    def _tag(self, network_id: str, network: Network | None, deadline: Deadline) -> None:
        """Write or remove the tag in the VRS; what fails is made up for when the VRS is back."""
        self._untagged[network_id] = (
            network  # before the transaction: the mirror may be read meanwhile
        )
        self._tagging.add(network_id)
        try:
            if network is not None:
                self._vrs.remember(network, deadline)
            else:
                self._vrs.forget(network_id, deadline)
            if self._untagged.get(network_id, self) is network:
                del self._untagged[network_id]
        except Fault as fault:
            _log.warning(
                "the tag of network %s is not in the VRS yet: %s", network_id[:12], fault.message
            )
        finally:
            self._tagging.discard(network_id)

    def write_tags(self, deadline: Deadline) -> None:
        """Write what could not be written before; call it when the VRS is back. Switches greenlets."""
        tagged, late = (
            self._vrs.networks(),
            {key: network for key, network in self._untagged.items() if key not in self._tagging},
        )
        for network_id, network in tagged.items():
            if network_id not in self._untagged:
                self._by_id.setdefault(network_id, network)
        for network_id, network in late.items():
            self._tag(network_id, network, deadline)
        for network_id, network in list(self._by_id.items()):
            if network_id not in tagged and network_id not in self._untagged:
                self._tag(network_id, network, deadline)

    def settle(self, deadline: Deadline) -> None:
        """Give every network that the engine describes its pool and its tag, and missing tags their place. Switches greenlets.

        Raises Unavailable when the VRS cannot be asked; a network whose subnet the VSD does not have is left as it is.
        """
        for network_id, described in list(self._described.items()):
            if network_id in self._by_id or not self._vsd.is_up or described.is_swarm:
                continue  # a manager lists the swarm's networks, but only CreateNetwork brings one to a node (libnetwork §5.4)
            try:
                pool = self._build(described, deadline)
                self._engine.get_network(
                    network_id, deadline
                )  # the list may be older than a DeleteNetwork
            except NotFound:
                self._described.pop(network_id, None)
                continue
            except Fault as fault:
                _log.debug("network %s has no pool: %s", described.name, fault.message)
                continue
            if network_id in self._described and network_id not in self._by_id:
                self._keep(
                    Network(network_id, pool.pool_id, described.is_internal, described.name),
                    deadline,
                )
        self.write_tags(deadline)

    def delete_network(self, network_id: str, deadline: Deadline) -> None:
        """Forget a network; success when it is not known. Switches greenlets."""
        network = self._by_id.pop(network_id, None)
        self._created.pop(network_id, None)
        self._described.pop(network_id, None)
        self._unclear.pop(network_id, None)
        if network is not None or (self._vrs.is_ready and network_id in self._vrs.networks()):
            self._tag(network_id, None, deadline)

    def is_known(self, network_id: str) -> bool:
        """True for a network of ours, as far as is known."""
        return (
            network_id in self._by_id
            or network_id in self._described
            or network_id in self._unclear
        )

    @property
    def all(self) -> dict[str, Network]:
        """A copy of the networks of this host, by network id."""
        return dict(self._by_id)

    def network(self, network_id: str, deadline: Deadline) -> Network | None:
        """A network of ours with its PoolID; asks the engine for two seconds at most. None when nobody knows it. Switches."""
        known = self._by_id.get(network_id)
        if known is None and self._vrs.is_ready:
            known = self._vrs.networks().get(network_id)
            if known is not None:
                self._by_id[network_id] = known
        if known is not None:
            return known
        described = self._described.get(network_id)
        if described is None:
            try:
                described = self._engine.get_network(
                    network_id, deadline.at_most(_ENGINE_S)
                ).network
            except Fault as fault:
                _log.debug("%s", fault.message)
        if described is None:
            return None
        self.learn(described)
        pool = self._build(described, deadline)
        network = Network(network_id, pool.pool_id, described.is_internal, described.name)
        self._keep(network, deadline)
        return network

    def learn_all(self, networks: Iterable[EngineNetwork]) -> None:
        """Take over a complete list of the engine's networks of ours; what is not in it is forgotten."""
        present = set()
        for network in networks:
            self.learn(network)
            present.add(network.network_id)
        for network_id in [known for known in self._described if known not in present]:
            del self._described[network_id]

    def learn(self, described: EngineNetwork) -> None:
        """Take over one network of the engine: confirms or corrects what CreateNetwork made of it."""
        self._described[described.network_id] = described
        self._created.pop(
            described.network_id, None
        )  # the engine lists it, so its word counts from now on
        known = self._by_id.get(described.network_id)
        if known is not None:
            pool = self._try_pool(known.pool_id)
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
        elif described.network_id in self._unclear:
            pool = self._pending.claim_on(described.place, described.cidr)
            if pool is not None:
                self._keep(
                    Network(
                        described.network_id, pool.pool_id, described.is_internal, described.name
                    ),
                    Deadline(2.0, self._clock),
                )
