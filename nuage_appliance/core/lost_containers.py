"""VSD containers of running endpoints that the VSD's list lacks: claimed back, or made again.

Owns nothing. Must never plug in an endpoint whose address the VSD gave to somebody else.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, NotFound, Refused
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.host import HostIdentity
from nuage_appliance.core.plugging import Plugging
from nuage_appliance.core.vsd_containers import VsdContainers
from nuage_appliance.model import ADDRESS_IN_USE, Container, Stage, shorten

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)


class LostContainers:
    """Everything may switch greenlets."""

    def __init__(
        self,
        vsd: Vsd,
        table: EndpointTable,
        host: HostIdentity,
        containers: VsdContainers,
        plugging: Plugging,
    ) -> None:
        self._vsd = vsd
        self._table = table
        self._host = host
        self._containers = containers
        self._plugging = plugging

    def recover(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """Give a running endpoint back the VSD container that the VSD's list lacks; True.

        It gets the same address and MAC. Raises Refused when the VSD gave the address away
        meanwhile, and Fault.
        """
        with endpoint.lock:
            if endpoint.is_leaving:
                return True
            if endpoint.place is None:
                self._plugging.find_place(endpoint, deadline)
            try:
                container = self._vsd.get_container(endpoint.vsd_id, deadline)
            except NotFound:
                if endpoint.is_leaving or not self._create_again(endpoint, deadline):
                    return True
            else:
                self._claim(endpoint, container, deadline)
                return True
        if endpoint.identity is not None:
            self._plugging.bind(endpoint, endpoint.identity, deadline)
        return True

    def _claim(self, endpoint: Endpoint, container: Container, deadline: Deadline) -> None:
        """Label a container with this host's id: the link on this host names it, so it is ours.

        It has the id that the host had before, under another system id.
        """
        external_id = self._host.external_id
        if container.external_id != external_id:
            _log.warning(
                "container %s of port %s had the host id %s on the VSD; it is labelled %s now",
                endpoint.vsd_id,
                endpoint.port_name,
                shorten(container.external_id),
                external_id,
            )
            self._vsd.update_container(endpoint.vsd_id, deadline, externalID=external_id)
        if self._table.is_deleted(endpoint.vsd_id):
            return  # released meanwhile: the table must not have it again
        for interface in container.interfaces[:1]:
            endpoint.fill(container, interface)
            self._table.put(endpoint)

    def _create_again(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """False when the endpoint was released meanwhile.

        Raises Refused when the address is somebody else's.
        """
        if not endpoint.lost_address:
            _log.warning(
                "the VSD lost the container of port %s (%s); it is created again",
                endpoint.port_name,
                endpoint.interface,
            )
        try:
            self._containers.recreate(endpoint, endpoint.mac, deadline)
        except NotFound:
            return False
        except Conflict as conflict:
            endpoint.problem = (
                f"the VSD does not give {endpoint.address} back to port {endpoint.port_name}, "
                f"which is unplugged: {conflict.message}"
            )
            if conflict.code == ADDRESS_IN_USE:
                self._plugging.unplug(endpoint, deadline)
            raise Refused(endpoint.problem, conflict.code) from None
        endpoint.lost_address = False
        if endpoint.stage is Stage.ATTACHED:
            endpoint.stage = Stage.JOINED
        return True
