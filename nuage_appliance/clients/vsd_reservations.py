"""Addresses that the VSD reserves without a container, for tasks of a swarm (VSD 20.5 and newer).

Owns nothing. Must never cancel a reservation that an administrator made. Everything may switch
greenlets.
"""

from __future__ import annotations

from typing import Any, cast

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, NotFound, Refused
from nuage_appliance.base.json_fields import address as read_address
from nuage_appliance.base.json_fields import text
from nuage_appliance.clients.vsd_creation import create_once
from nuage_appliance.clients.vsd_records import predicate
from nuage_appliance.clients.vsd_session import CONFIRMED, VsdSession
from nuage_appliance.model import DUPLICATE_RESERVATION, RESERVATION, Address, Cidr, Subnet

_OURS = f"{RESERVATION}/"  # how the external id of each reservation of a swarm manager begins


class VsdReservations:
    """The reservations of addresses on the VSD that `session` speaks to."""

    def __init__(self, session: VsdSession) -> None:
        self._session = session

    def reserve(
        self,
        subnet: Subnet,
        address: Address | None,
        external_id: str,
        choice: Cidr | None,
        deadline: Deadline,
    ) -> Address:
        """Reserve an address without a container (vsd §9); out of `choice` if that is given.

        With an `address` that this appliance reserved before, it is success again. `external_id` is
        this request's own, so that a reservation whose reply was lost is found. Raises NotFound
        when the VSD is older than 20.5 or the subnet is gone; Conflict, Unavailable.
        """
        external_id = _OURS + external_id
        path = _path(subnet)
        body: dict[str, Any] = {"IPType": "IPV4", "externalID": external_id}
        if address is not None:
            body["IPV4Address"] = str(address)
        else:
            body["allocationPools"] = [_allocation_pool(subnet, choice)]

        def read(item: dict[str, Any]) -> Address | None:
            return read_address(item.get("IPV4Address"))

        def look() -> Address | None:
            return self._reserved_as(path, external_id, deadline)

        try:
            made = create_once(self._session, path, body, read=read, look=look, deadline=deadline)
            return cast(Address, made)  # mypy joins the two kinds of address to their base class
        except Conflict as conflict:
            if (
                address is not None
                and conflict.code == DUPLICATE_RESERVATION
                and self._ours(path, address, deadline)
            ):
                return address
            raise

    def _reserved_as(self, path: str, external_id: str, deadline: Deadline) -> Address | None:
        """The address that is reserved under an external id, or None."""
        for item in self._session.list(path, deadline, predicate("externalID", external_id)):
            if text(item, "externalID") == external_id:
                return read_address(item.get("IPV4Address"))
        return None

    def cancel(self, subnet: Subnet, address: Address, deadline: Deadline) -> bool:
        """Give a reserved address back; False when no manager of a swarm reserved it.

        A reservation that a container uses ends with that container.
        """
        try:
            found = self._ours(_path(subnet), address, deadline)
            for item in found:
                self._session.request(
                    "DELETE", f"/vmipreservations/{text(item, 'ID')}{CONFIRMED}", deadline
                )
        except (NotFound, Refused):
            return False
        return bool(found)

    def addresses(self, subnet: Subnet, deadline: Deadline) -> set[Address]:
        """Every reserved address of a subnet, whoever reserved it.

        Complete or raises Unavailable.
        """
        paths = [(_path(subnet), "IPV4Address")]
        if not subnet.place.is_l2:
            paths.append((f"/subnets/{subnet.vsd_id}/ipreservations", "IPAddress"))
        found: set[Address] = set()
        for path, key in paths:
            try:
                items = self._session.list(path, deadline)
            except NotFound:  # a VSD that is older than such reservations
                continue
            found.update(one for item in items if (one := read_address(item.get(key))))
        return found

    def _ours(self, path: str, address: Address, deadline: Deadline) -> list[dict[str, Any]]:
        """The reservations of an address that this appliance made, on whatever host."""
        return [
            item
            for item in self._session.list(path, deadline, predicate("IPV4Address", str(address)))
            if read_address(item.get("IPV4Address")) == address
            and text(item, "externalID").startswith(_OURS)
        ]


def _allocation_pool(subnet: Subnet, choice: Cidr | None) -> dict[str, str]:
    first, last = subnet.cidr.network_address + 1, subnet.cidr.broadcast_address - 1
    if choice is not None:
        first = max(first, choice.network_address)
        last = min(last, choice.broadcast_address)
    return {"minAddress": str(first), "maxAddress": str(last)}


def _path(subnet: Subnet) -> str:
    resource = "l2domains" if subnet.place.is_l2 else "subnets"
    return f"/{resource}/{subnet.vsd_id}/vmipreservations"
