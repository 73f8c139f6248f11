"""Addresses: each is reserved by creating the VSD container of an endpoint to come.

Owns how an address is chosen; `containers` makes it the host's, `deletions` gives it back, `swarm`
is what a manager reserves. Must never hand out an address twice.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import NotFound, Refused
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.core.deletions import Deletions
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.core.identifiers import Identifiers
from nuage_appliance.core.networks import Networks
from nuage_appliance.core.swarm import SwarmReservations
from nuage_appliance.core.vsd_containers import VsdContainers
from nuage_appliance.model import ADDRESS_IN_USE, SUBNET_FULL, Address, Cidr, Pool, Subnet

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_TRIES = 4


class Addresses:
    """The addresses of this host. Every method may switch greenlets.

    `hostname` marks the MACs; `late_releases` keeps a swarm manager's releases over a restart.
    """

    def __init__(
        self,
        vsd: Vsd,
        networks: Networks,
        table: EndpointTable,
        host: HostIdentity,
        *,
        hostname: str,
        late_releases: StateFile,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._vsd = vsd
        self._networks = networks
        self._table = table
        self._rng = rng or random.SystemRandom()
        identifiers = Identifiers(hostname, rng)
        self.swarm = SwarmReservations(vsd, networks, host, late_releases, identifiers, clock, rng)
        self.deletions = Deletions(vsd, table, self.swarm, clock)
        self.containers = VsdContainers(
            vsd, networks, table, host, self.swarm, self.deletions, identifiers
        )

    def request_address(self, pool: Pool, address: Address | None, deadline: Deadline) -> Endpoint:
        """Create the VSD container of an endpoint to come (libnetwork §3.4); the table has it then.

        The VSD chooses when no address is asked for. Raises Refused with the VSD's reason when the
        address cannot be had, Unavailable, Denied. Switches greenlets.
        """
        if address is not None and address not in pool.cidr:
            raise Refused(
                f"the address {address} is outside of {pool.cidr} of the VSD's {pool.place}"
            )
        self._table.wait_complete(deadline)
        subnet = self._networks.subnets.of(pool)
        if address is not None:
            self.deletions.try_delete_holder(subnet.vsd_id, address, deadline)
        elif pool.allocation_range is not None:
            return self._request_within(pool, subnet, pool.allocation_range, deadline)
        return self._request_unused(pool, subnet, address, deadline)

    def _request_unused(
        self, pool: Pool, subnet: Subnet, address: Address | None, deadline: Deadline
    ) -> Endpoint:
        """Create until the VSD gives an address that no endpoint of this host uses."""
        # The VSD may have lost the container of an endpoint that still runs here, and give its
        # address away. Then the new container is kept as a blocker until another address was found,
        # so that the VSD does not offer it again.
        blockers: list[Endpoint] = []
        try:
            for _ in range(_TRIES):
                endpoint = self.containers.create(pool, subnet, address, deadline)
                user = self._table.by_address((endpoint.subnet_id,), endpoint.address)
                if user is None or user.vsd_id == endpoint.vsd_id:
                    self._put(endpoint, pool)
                    return endpoint
                blockers.append(endpoint)
                _log.error(
                    "the VSD offered %s, which port %s of this host still uses; not handed out",
                    endpoint.interface,
                    user.port_name,
                )
                if address is not None:
                    break
        finally:
            for blocker in blockers:
                self._table.numbers.free(blocker.pair)
                self.deletions.delete_soon(blocker)
        raise Refused(
            "the VSD offers only addresses that endpoints of this host still use "
            f"in the {pool.place}"
        )

    def _request_within(
        self, pool: Pool, subnet: Subnet, choice: Cidr, deadline: Deadline
    ) -> Endpoint:
        """Choose inside an --ip-range or a part of the subnet.

        The VSD's API has no such choice, so one free address after the other is asked for, from a
        random one on.
        """
        try:
            used = self._vsd.used_addresses(subnet, deadline)
        except NotFound:
            subnet = self._networks.subnets.find_again(pool, deadline)
            used = self._vsd.used_addresses(subnet, deadline)
        used.update(
            {pool.gateway, pool.subnet_cidr.network_address, pool.subnet_cidr.broadcast_address}
        )
        size = choice.num_addresses
        start = self._rng.randrange(size)
        for offset in range(size):
            address = choice[(start + offset) % size]
            if address in used or self._table.by_address((subnet.vsd_id,), address):
                continue
            try:
                endpoint = self.containers.create(
                    pool, subnet, address, deadline, is_our_choice=True
                )
            except Refused as refusal:
                if refusal.code != ADDRESS_IN_USE:
                    raise
                deadline.check("the VSD")
                continue
            self._put(endpoint, pool)
            return endpoint
        raise Refused(f"no address is left in {choice} of the VSD's {pool.place}", SUBNET_FULL)

    def _put(self, endpoint: Endpoint, pool: Pool) -> None:
        twin = self._table.by_vsd(endpoint.vsd_id)
        if twin is not None:
            self._table.drop(twin)  # a list that was read meanwhile had our own container
        self._table.put(endpoint)
        _log.info(
            "reserved %s in %s for port %s", endpoint.interface, pool.place, endpoint.port_name
        )

    def end_container(self, vsd_id: str, deadline: Deadline) -> None:
        """Delete a VSD container that no endpoint has; one that is gone is success.

        Raises Fault. Switches greenlets.
        """
        self.deletions.delete_container(vsd_id, deadline)
