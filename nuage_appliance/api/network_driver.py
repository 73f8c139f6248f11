"""NetworkDriver.*, in the protocol's order (libnetwork §2).

Owns nothing. Must never answer a gateway for a network that is known to be internal.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from typing import Any

from nuage_appliance.api.plugin_server import Handler, Request
from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, Refused
from nuage_appliance.core.endpoints import Endpoints
from nuage_appliance.core.networks import Networks
from nuage_appliance.core.swarm import SwarmReservations
from nuage_appliance.model import Network, shorten

_log = logging.getLogger(__name__)

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\Z")
_NO_MAC = "00:00:00:00:00:00"
BODILESS = frozenset({"NetworkDriver.GetCapabilities"})


class NetworkDriver:
    """The network driver. Its handlers may switch greenlets.

    None needs the engine's API (libnetwork §1.6).
    """

    def __init__(
        self, networks: Networks, endpoints: Endpoints, swarm: SwarmReservations, scope: str
    ) -> None:
        self._networks = networks
        self._endpoints = endpoints
        self._swarm = swarm
        self._scope = scope

    @property
    def methods(self) -> dict[str, Handler]:
        """The handlers by the names of the protocol's methods."""
        return {
            f"NetworkDriver.{name}": handler
            for name, handler in (
                ("GetCapabilities", self.get_capabilities),
                ("GwAllocCheck", self.gw_alloc_check),
                ("CreateNetwork", self.create_network),
                ("DeleteNetwork", self.delete_network),
                ("CreateEndpoint", self.create_endpoint),
                ("Join", self.join),
                ("ProgramExternalConnectivity", self.program_external_connectivity),
                ("RevokeExternalConnectivity", self.revoke_external_connectivity),
                ("EndpointOperInfo", self.endpoint_oper_info),
                ("Leave", self.leave),
                ("DeleteEndpoint", self.delete_endpoint),
                ("DiscoverNew", self.discover_new),
                ("DiscoverDelete", self.discover_delete),
                ("AllocateNetwork", self.allocate_network),
                ("FreeNetwork", self.free_network),
            )
        }

    def get_capabilities(self, request: Request) -> dict[str, Any]:
        """Answer the configured scope; an error would stick until the engine restarts.

        See libnetwork §1.2.
        """
        return {"Scope": self._scope, "ConnectivityScope": "global"}

    def gw_alloc_check(self, request: Request) -> dict[str, Any]:
        """Have the engine ask for the gateway: every subnet that is taken has one."""
        return {"SkipIPv4": False, "SkipIPv6": False}

    def create_network(self, request: Request) -> dict[str, Any]:
        """Tie the NetworkID to its pool; nothing is made on the VSD. Raises Refused."""
        self._networks.create_network(
            request.need("NetworkID"),
            request.mapping("Options"),
            request.objects("IPv4Data"),
            request.objects("IPv6Data"),
            request.deadline,
        )
        return {}

    def delete_network(self, request: Request) -> dict[str, Any]:
        """Forget a network; succeeds for one that is unknown or was deleted before."""
        self._networks.delete_network(request.need("NetworkID", 4096), request.deadline)
        return {}

    def create_endpoint(self, request: Request) -> dict[str, Any]:
        """Make the link and answer its MAC, unless the user chose the MAC.

        An engine takes a MAC that it sent and gets back for an error (libnetwork §2.5). Raises
        Refused, Unavailable.
        """
        network_id, endpoint_id = request.need("NetworkID"), request.need("EndpointID")
        if "|" in network_id + endpoint_id or not (network_id + endpoint_id).isascii():
            raise Refused(
                f"{request.method}: NetworkID and EndpointID must be ASCII without '|'; "
                "nothing was changed"
            )
        interface = request.part("Interface")
        mac = interface.text("MacAddress")
        if mac and (not _MAC.match(mac) or int(mac[:2], 16) & 1 or mac == _NO_MAC):
            raise Refused(
                f"the MAC {shorten(mac)} is not a unicast address such as 02:42:0a:15:3b:07"
            )
        if interface.text("AddressIPv6"):
            raise Refused("networks of this driver are IPv4 only; leave out --ip6")
        text = interface.text("Address")
        if not text:
            raise Refused(
                "the endpoint has no address; create the network with --ipam-driver=nuage-ipam"
            )
        try:
            address = ipaddress.ip_interface(text).ip
        except ValueError:
            raise Refused(f"the address {shorten(text)} is not ADDRESS/PREFIX") from None
        endpoint = self._endpoints.create(
            network_id, endpoint_id, address, mac.lower(), request.deadline
        )
        return {"Interface": {} if mac else {"MacAddress": endpoint.mac}}

    def join(self, request: Request) -> dict[str, Any]:
        """Answer the device that the engine moves into the container, and the gateway.

        The gateway stays empty for a network made with --internal: the engine then gives the
        container no default route, and so the container reaches its own subnet only. Isolation
        is the driver's job: with a gateway in the answer the engine sets the route, whatever
        --internal says (libnetwork §2.6, `Gateway` and `--internal`). Raises Refused, Unavailable.
        """
        network_id = request.need("NetworkID")
        endpoint = self._endpoints.join(network_id, request.need("EndpointID"), request.deadline)
        network = self._find_network(network_id, request.deadline)
        is_internal = network is not None and network.is_internal
        has_gateway = endpoint.gateway is not None and not is_internal
        return {
            "InterfaceName": {"SrcName": endpoint.pair.entity_port, "DstPrefix": "eth"},
            "Gateway": str(endpoint.gateway) if has_gateway else "",
            "GatewayIPv6": "",
            "StaticRoutes": [],
            "DisableGatewayService": False,
        }

    def _find_network(self, network_id: str, deadline: Deadline) -> Network | None:
        """The network, from whoever knows it; None only when nobody can say what it is."""
        try:
            return self._networks.look_up(network_id, deadline)
        except Fault as fault:
            _log.warning("network %s is not known: %s", network_id[:12], fault.message)
            return None

    def program_external_connectivity(self, request: Request) -> dict[str, Any]:
        """Do nothing: a port is reachable in the VSD's domain, not on the host."""
        self._need_endpoint(request)
        return {}

    def revoke_external_connectivity(self, request: Request) -> dict[str, Any]:
        """Do nothing, as there is nothing to undo."""
        self._need_endpoint(request)
        return {}

    def endpoint_oper_info(self, request: Request) -> dict[str, Any]:
        """Answer an empty map, also for unknown endpoints.

        An error would stop a container's start on engine 20.10 (libnetwork §2.8).
        """
        self._need_endpoint(request)
        return {"Value": {}}

    def leave(self, request: Request) -> dict[str, Any]:
        """Unplug an endpoint; succeeds for one that is unknown, never joined, or left before."""
        self._endpoints.leave(self._need_endpoint(request), request.deadline)
        return {}

    def delete_endpoint(self, request: Request) -> dict[str, Any]:
        """Delete an endpoint's link; succeeds for one that is unknown or was deleted before."""
        self._endpoints.delete(self._need_endpoint(request), request.deadline)
        return {}

    @staticmethod
    def _need_endpoint(request: Request) -> str:
        request.need("NetworkID", 4096)
        return request.need("EndpointID", 4096)

    def discover_new(self, request: Request) -> dict[str, Any]:
        """Do nothing: the VSD knows its hosts."""
        return {}

    def discover_delete(self, request: Request) -> dict[str, Any]:
        """Do nothing: the VSD knows its hosts."""
        return {}

    def allocate_network(self, request: Request) -> dict[str, Any]:
        """Swarm manager: answer every option that came.

        Workers get what is answered here and nothing else (libnetwork §5.4).
        """
        network_id = request.need("NetworkID", 4096)
        pool = self._networks.allocate_network(request.objects("IPv4Data"))
        if pool is not None:
            self._swarm.allocated(network_id, pool)
        return {"Options": request.texts("Options")}

    def free_network(self, request: Request) -> dict[str, Any]:
        """Swarm manager: give back the addresses of tasks that the engine will not release."""
        self._swarm.freed(request.need("NetworkID", 4096))
        return {}
