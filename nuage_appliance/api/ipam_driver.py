"""IpamDriver.*, in the protocol's order (libnetwork §3)."""

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
        self._networks, self._addresses, self._endpoints = networks, addresses, endpoints

    @property
    def methods(self) -> dict[str, Handler]:
        """The protocol's methods."""
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
        """A PoolID that describes its pool (libnetwork §3.3)."""
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
        """Always succeeds; the pool's subnet stays on the VSD."""
        self._networks.release_pool(request.need("PoolID", _LONGEST_POOL_ID))
        return {}

    def request_address(self, request: Request) -> dict[str, Any]:
        """The gateway from the PoolID; a container's address from the VSD (libnetwork §3.4)."""
        pool = self._networks.pool(request.need("PoolID", _LONGEST_POOL_ID), request.deadline)
        address = _address(request.text("Address"))
        options = request.mapping("Options")
        if options.get(_REQUEST_TYPE) == _GATEWAY_TYPE:
            if address is not None and address != pool.gateway:
                raise Refused(
                    f"--gateway {address} does not match: the VSD's {pool.place} is {pool.subnet_cidr} with gateway {pool.gateway}; "
                    f"use --gateway={pool.gateway} or leave it out"
                )
            return {"Address": f"{pool.gateway}/{pool.subnet_cidr.prefixlen}", "Data": {}}
        if pool.space == GLOBAL_SPACE and _SERIAL in options:
            found = self._addresses.swarm.reserve(
                pool, address, self._addresses.external_id, request.deadline
            )
            return {"Address": f"{found}/{pool.subnet_cidr.prefixlen}", "Data": {}}
        if address is not None and self._networks.is_pending(pool):
            raise Refused(
                f"--aux-address {address} cannot be kept free: the VSD assigns the addresses of its {pool.place}; "
                "reserve it there and leave --aux-address out"
            )
        if address is not None and address == pool.gateway:
            raise Refused(
                f"the address {address} is the gateway of the VSD's {pool.place}; choose another --ip"
            )
        endpoint = self._addresses.reserve(pool, address, request.deadline)
        return {"Address": str(endpoint.interface), "Data": {}}

    def release_address(self, request: Request) -> dict[str, Any]:
        """Always succeeds for what is ours, also when it is the only call that a crash left for an endpoint (libnetwork §4.7)."""
        pool_id = request.need("PoolID", _LONGEST_POOL_ID)
        text = request.text("Address")
        try:
            pool = self._networks.pool(pool_id, request.deadline)
            address = _address(text)
        except Refused:
            return {}
        if (
            address is not None and address != pool.gateway and address in pool.cidr
        ):  # the subnet's other parts are other networks'
            self._endpoints.release(pool, address, request.deadline)
        return {}


def _address(text: str) -> Address | None:
    """A bare IP address; the engine may send one with a prefix in old versions."""
    if not text:
        return None
    try:
        return ipaddress.ip_address(text.split("/")[0])
    except ValueError:
        raise Refused(f"the address {shorten(text)} is not an IP address") from None
