"""IpamDriver.*, in the protocol's order (libnetwork §3).

Owns nothing. Must never answer an address that the VSD did not give for this call.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from nuage_appliance.api.plugin_server import Handler, Request
from nuage_appliance.base.faults import Refused
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.core.networks import Networks
from nuage_appliance.model import GLOBAL_SPACE, LOCAL_SPACE, Address, shorten

_GATEWAY_TYPE = "com.docker.network.gateway"
_REQUEST_TYPE = "RequestAddressType"
_SERIAL = "com.docker.network.ipam.serial"
_LONGEST_POOL_ID = 16_384
BODILESS = frozenset({"IpamDriver.GetCapabilities", "IpamDriver.GetDefaultAddressSpaces"})


class IpamDriver:
    """The IPAM driver. Its handlers may switch greenlets."""

    def __init__(self, networks: Networks, addresses: Addresses, endpoints: Endpoints) -> None:
        self._networks = networks
        self._addresses = addresses
        self._endpoints = endpoints

    @property
    def methods(self) -> dict[str, Handler]:
        """The handlers by the names of the protocol's methods."""
        return {
            f"IpamDriver.{name}": handler
            for name, handler in (
                ("GetCapabilities", self.get_capabilities),
                ("GetDefaultAddressSpaces", self.get_default_address_spaces),
                ("RequestPool", self.request_pool),
                ("ReleasePool", self.release_pool),
                ("RequestAddress", self.request_address),
                ("ReleaseAddress", self.release_address),
            )
        }

    def get_capabilities(self, request: Request) -> dict[str, Any]:
        """Constants: a failure here would stick until the engine restarts (libnetwork §1.2)."""
        return {"RequiresMACAddress": False, "RequiresRequestReplay": False}

    def get_default_address_spaces(self, request: Request) -> dict[str, Any]:
        """Two spaces, different and never empty (libnetwork §3.2)."""
        return {"LocalDefaultAddressSpace": LOCAL_SPACE, "GlobalDefaultAddressSpace": GLOBAL_SPACE}

    def request_pool(self, request: Request) -> dict[str, Any]:
        """Answer a PoolID that describes its pool, and the pool's CIDR (libnetwork §3.3).

        Nothing is created on the VSD. Raises Refused naming the option that is wrong, Unavailable.
        """
        pool = self._networks.request_pool(
            request.text("AddressSpace"),
            request.text("Pool"),
            request.text("SubPool"),
            request.texts("Options"),
            request.flag("V6"),
            request.deadline,
        )
        return {"PoolID": pool.pool_id, "Pool": str(pool.cidr), "Data": {}}

    def release_pool(self, request: Request) -> dict[str, Any]:
        """Forget a pool that no network took; always succeeds. The subnet stays on the VSD."""
        self._networks.release_pool(request.need("PoolID", _LONGEST_POOL_ID))
        return {}

    def request_address(self, request: Request) -> dict[str, Any]:
        """Answer an address with its prefix length (libnetwork §3.4).

        The same method asks for four different things, which only its options tell apart:

        * the network's gateway, at `docker network create`: read from the PoolID;
        * a reservation of a swarm manager, for a task or service that may run on any host: it has
          the serial option that only the swarm's allocator sends, and a pool of the global space;
        * an --aux-address, at `docker network create`: an address is asked for while no network
          claimed the pool yet. It is refused, because the VSD cannot leave an address out;
        * a container's address: the VSD chooses, or takes the one of --ip.

        Raises Refused, Conflict, Unavailable.
        """
        pool = self._networks.pool(request.need("PoolID", _LONGEST_POOL_ID), request.deadline)
        address = _address(request.text("Address"))
        options = request.mapping("Options")
        if options.get(_REQUEST_TYPE) == _GATEWAY_TYPE:
            if address is not None and address != pool.gateway:
                raise Refused(
                    f"--gateway {address} does not match: the VSD's {pool.place} is "
                    f"{pool.subnet_cidr} with gateway {pool.gateway}; "
                    f"use --gateway={pool.gateway} or leave it out"
                )
            return {"Address": f"{pool.gateway}/{pool.subnet_cidr.prefixlen}", "Data": {}}
        if pool.space == GLOBAL_SPACE and _SERIAL in options:
            found = self._addresses.swarm.reserve(pool, address, request.deadline)
            return {"Address": f"{found}/{pool.subnet_cidr.prefixlen}", "Data": {}}
        if address is not None and self._networks.is_pending(pool):
            raise Refused(
                f"--aux-address {address} cannot be kept free: the VSD assigns the addresses of "
                f"its {pool.place}; reserve it there and leave --aux-address out"
            )
        if address is not None and address == pool.gateway:
            raise Refused(
                f"the address {address} is the gateway of the VSD's {pool.place}; "
                "choose another --ip"
            )
        endpoint = self._addresses.request_address(pool, address, request.deadline)
        return {"Address": str(endpoint.interface), "Data": {}}

    def release_address(self, request: Request) -> dict[str, Any]:
        """Give an address back; always succeeds for what is ours.

        After a crash of the engine this may be the only call that still comes for an endpoint, so
        it takes down everything that the endpoint left behind (libnetwork §4.7).
        """
        pool_id = request.need("PoolID", _LONGEST_POOL_ID)
        text = request.text("Address")
        try:
            pool = self._networks.pool(pool_id, request.deadline)
            address = _address(text)
        except Refused:
            return {}
        # Other parts of the VSD's subnet belong to other networks.
        if address is not None and address != pool.gateway and address in pool.cidr:
            self._endpoints.releases.release(pool, address, request.deadline)
        return {}


def _address(text: str) -> Address | None:
    """The IP address in a text, without the prefix length that old engines add; None for ''."""
    if not text:
        return None
    try:
        return ipaddress.ip_address(text.split("/")[0])
    except ValueError:
        raise Refused(f"the address {shorten(text)} is not an IP address") from None
