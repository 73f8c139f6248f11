"""Which subnet of the VSD a pool lives in.

Owns what was found out about subnets that were made anew under another id. Must never put a pool
into a subnet with other addresses than the pool was made for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Refused
from nuage_appliance.core.pools import pool_in
from nuage_appliance.model import GLOBAL_SPACE, LOCAL_SPACE, EngineNetwork, Pool, Subnet

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd


class Subnets:
    """The VSD's subnets, as far as pools of this host need them."""

    def __init__(self, vsd: Vsd) -> None:
        self._vsd = vsd
        # The subnet as it is now, by the id that a PoolID has: a PoolID is never changed, but an
        # administrator may delete a subnet and make it again. At most one for each such subnet.
        self._moved: dict[str, Subnet] = {}

    def of(self, pool: Pool) -> Subnet:
        """The VSD subnet of a pool, from the PoolID, or as it was found again.

        Does not switch greenlets.
        """
        return self._moved.get(pool.subnet_id) or Subnet(
            pool.subnet_id, pool.place, pool.subnet_cidr, pool.gateway, ""
        )

    def ids(self, pool: Pool) -> tuple[str, ...]:
        """Every VSD id under which the pool's subnet was known, the present one first.

        Does not switch greenlets.
        """
        moved = self._moved.get(pool.subnet_id)
        return (pool.subnet_id,) if moved is None else (moved.vsd_id, pool.subnet_id)

    def find_again(self, pool: Pool, deadline: Deadline) -> Subnet:
        """Look the subnet up by its names, after the VSD lost its id.

        Raises Refused when it has another CIDR or gateway now, and what Vsd.find_subnet raises.
        Switches greenlets.
        """
        subnet = self._vsd.find_subnet(pool.place, deadline)
        if subnet.cidr != pool.subnet_cidr:
            raise Refused(
                f"the VSD's {pool.place} was made anew as {subnet.cidr}, "
                f"but this network was created for {pool.subnet_cidr}; create the network anew"
            )
        if subnet.gateway != pool.gateway:
            raise Refused(
                f"the VSD's {pool.place} was made anew with gateway {subnet.gateway}, "
                f"but this network was created for {pool.gateway}; create the network anew"
            )
        self._moved[pool.subnet_id] = subnet
        return subnet

    def share_addresses(self, one: Pool, other: Pool) -> bool:
        """True for pools that overlap in one subnet, whatever it was called at either request."""
        is_same = one.place == other.place or self.of(one).vsd_id == self.of(other).vsd_id
        return is_same and one.cidr.overlaps(other.cidr)

    def pool_of(self, network: EngineNetwork, deadline: Deadline) -> Pool:
        """The pool of a network that the engine describes.

        Raises Refused, Unavailable. Switches greenlets.
        """
        return pool_in(
            self._vsd.find_subnet(network.place, deadline),
            user=network.user,
            cidr=network.cidr,
            address_range=network.address_range,
            space=LOCAL_SPACE if network.is_local else GLOBAL_SPACE,
        )
