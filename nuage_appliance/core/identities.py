"""Whose an endpoint is, as its VSD container shows it: UUID, name and policy groups.

Owns nothing. Must never give the UUID of one container to another one's endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.model import UUID_IN_USE, Identity

if TYPE_CHECKING:
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)


class Identities:
    """Everything may switch greenlets.

    `end` undoes all of an endpoint that the engine no longer has; it never raises.
    """

    def __init__(
        self, vsd: Vsd, table: EndpointTable, end: Callable[[Endpoint, Deadline], None]
    ) -> None:
        self._vsd = vsd
        self._table = table
        self._end = end

    def give(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        """Give the endpoint's VSD container the UUID and the name of its Docker container.

        Raises Fault.

        UUIDs are unique on the VSD (vsd §11.6): the first endpoint of a container has the
        container's id as its UUID, further ones, on other networks, keep their own.
        """
        self._end_twin(endpoint, identity, deadline)
        attributes = {"name": identity.name or identity.container_id}
        if identity.orchestration_id:
            attributes["orchestrationID"] = identity.orchestration_id
        if (
            self._table.by_uuid(identity.container_id) in (None, endpoint)
            and endpoint.uuid != identity.container_id
        ):
            attributes["UUID"] = identity.container_id
        try:
            self._vsd.update_container(endpoint.vsd_id, deadline, **attributes)
        except Conflict as conflict:
            if conflict.code != UUID_IN_USE or "UUID" not in attributes:
                raise
            del attributes["UUID"]
            self._vsd.update_container(endpoint.vsd_id, deadline, **attributes)
        self._table.rename(endpoint, attributes.get("UUID", endpoint.uuid), attributes["name"])

    def _end_twin(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        """End the endpoint that a power cut left: a container has one on a network."""
        twin = self._table.by_uuid(identity.container_id)
        if (
            twin is None
            or twin is endpoint
            or twin.network_id != endpoint.network_id
            or twin.is_leaving
        ):
            return
        _log.warning(
            "port %s with %s was left behind by container %s, which has port %s now; "
            "it is taken down",
            twin.port_name,
            twin.interface,
            identity.name or identity.container_id[:12],
            endpoint.port_name,
        )
        self._end(twin, deadline)

    def join_policy_groups(
        self, endpoint: Endpoint, identity: Identity, deadline: Deadline
    ) -> None:
        """Put the endpoint's vPort into the policy groups that its container asks for.

        Raises Fault.
        """
        if not identity.policy_groups:
            return
        groups = [
            self._vsd.find_policy_group(name, endpoint.domain_id, endpoint.is_l2, deadline)
            for name in identity.policy_groups
        ]
        self._vsd.add_policy_groups(endpoint.vport_id, groups, deadline)
