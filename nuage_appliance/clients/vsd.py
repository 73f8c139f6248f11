"""The VSD calls that this product makes (vsd §16), in the records of the model.

Owns nothing; reads defensively, because a field may be missing or null in any release. Everything may switch greenlets.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable
from typing import Any

import gevent

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.clients.vsd_session import VsdSession
from nuage_appliance.model import (
    DUPLICATE,
    DUPLICATE_RESERVATION,
    RESERVATION,
    UUID_IN_USE,
    Address,
    Cidr,
    Container,
    ContainerInterface,
    Subnet,
    Place,
    shorten,
)

_DOOMED_SUFFIX = "_MARKED_FOR_DELETION"
_DELETED_STATE = "MARKED_FOR_DELETION"
_CONFIRMED = "?responseChoice=1"
_RESERVED = f"{RESERVATION}/"  # how the external id of each reservation of a swarm manager begins
_PAUSE_S = 1e-6  # lets timers and sockets in


def predicate(attribute: str, value: str) -> str | None:
    """A filter `attribute == value`, or None when the value cannot be quoted safely (vsd §4)."""
    if not value.isascii() or not value.isprintable() or "\\" in value:
        return None
    for quote in ('"', "'"):
        if quote not in value:
            return f"{attribute} == {quote}{value}{quote}"
    return None


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


def _address(value: Any) -> Address | None:
    try:
        return ipaddress.ip_address(str(value).split("/")[0]) if value else None
    except ValueError:
        return None


def _network(address: Any, netmask: Any) -> Cidr | None:
    try:
        return ipaddress.ip_network(f"{address}/{netmask}") if address and netmask else None
    except ValueError:
        return None


def _prefix_len(netmask: Any) -> int:
    network = _network("0.0.0.0", netmask)
    return network.prefixlen if network else 0


class Vsd:
    """The VSD's dozen calls."""

    def __init__(self, session: VsdSession) -> None:
        self._session = session

    @property
    def is_up(self) -> bool:
        """True when the VSD answered the last call."""
        return self._session.is_up

    # -- look-ups by name -------------------------------------------------------------------------

    def _named(
        self, path: str, kind: str, option: str, name: str, within: str, deadline: Deadline
    ) -> dict[str, Any]:
        """The one live object called exactly `name` in a collection, or Refused naming the option."""
        objects = self._session.list(path, deadline, predicate("name", name))
        found = [
            item
            for item in objects
            if _text(item, "name") == name
            and _text(item, "ID")
            and not name.endswith(_DOOMED_SUFFIX)
            and item.get("entityState") != _DELETED_STATE
        ]
        if not found:
            raise Refused(
                f"the VSD has no {kind} {shorten(name)}{within}; correct --ipam-opt {option}=…"
            )
        if len(found) > 1:
            raise Refused(
                f"the VSD has {len(found)} of {kind} {shorten(name)}{within}; names must be unique to be used by --ipam-opt {option}=…"
            )
        return found[0]

    def find_subnet(self, place: Place, deadline: Deadline) -> Subnet:
        """The subnet, or managed L2 domain, that a place names. Raises Refused naming the option that is wrong."""
        enterprise = self._named(
            "/enterprises", "organization", "organization", place.organization, "", deadline
        )
        within = f" in organization {shorten(place.organization)}"
        if place.is_l2:
            found = self._named(
                f"/enterprises/{enterprise['ID']}/l2domains",
                "L2 domain",
                "domain",
                place.domain,
                f"{within} (zone and subnet were not given, so domain names an L2 domain)",
                deadline,
            )
            return self._subnet(found, place, found["ID"])
        domain = self._named(
            f"/enterprises/{enterprise['ID']}/domains",
            "domain",
            "domain",
            place.domain,
            within,
            deadline,
        )
        within = f" in domain {shorten(place.domain)}"
        zone = self._named(
            f"/domains/{domain['ID']}/zones", "zone", "zone", place.zone, within, deadline
        )
        within = f" in zone {shorten(place.zone)} of domain {shorten(place.domain)}"
        found = self._named(
            f"/zones/{zone['ID']}/subnets", "subnet", "subnet", place.subnet, within, deadline
        )
        return self._subnet(found, place, domain["ID"])

    def find_subnet_anywhere(self, place: Place, deadline: Deadline) -> Subnet:
        """As find_subnet, but with the zone unknown, as a predecessor's records leave it; the name must be unique."""
        enterprise = self._named(
            "/enterprises", "organization", "organization", place.organization, "", deadline
        )
        domain = self._named(
            f"/enterprises/{enterprise['ID']}/domains",
            "domain",
            "domain",
            place.domain,
            "",
            deadline,
        )
        found = self._named(
            f"/domains/{domain['ID']}/subnets",
            "subnet",
            "subnet",
            place.subnet,
            f" in domain {shorten(place.domain)}",
            deadline,
        )
        return self._subnet(found, place, domain["ID"])

    @staticmethod
    def _subnet(item: dict[str, Any], place: Place, domain_id: str) -> Subnet:
        cidr = _network(item.get("address"), item.get("netmask"))
        if cidr is None:
            raise Refused(
                f"the VSD's {place} has no IPv4 address range, so the VSD cannot assign addresses in it; "
                "choose a subnet, or an L2 domain that manages addresses"
            )
        return Subnet(_text(item, "ID"), place, cidr, _address(item.get("gateway")), domain_id)

    # -- containers -------------------------------------------------------------------------------

    def create_container(
        self,
        *,
        uuid: str,
        external_id: str,
        port_name: str,
        mac: str,
        subnet: Subnet,
        address: Address | None,
        deadline: Deadline,
    ) -> Container:
        """Create a container with one interface; the VSD chooses the address when `address` is None.

        Created at most once: `uuid` is ours and is looked up before a POST of unknown fate is repeated (vsd §6.4).
        Raises Conflict (ADDRESS_IN_USE, SUBNET_FULL, …), NotFound for a subnet that is gone, Unavailable.
        """
        interface: dict[str, Any] = {
            "name": port_name,
            "MAC": mac,
            "attachedNetworkID": subnet.vsd_id,
        }
        if address is not None:
            interface["IPAddress"] = str(address)
        body = {
            "UUID": uuid,
            "name": uuid,
            "externalID": external_id,
            "computeProvisioned": False,
            "interfaces": [interface],
        }
        last: Fault = Unavailable(f"{self._session.name} was not asked")
        for backoff in self._session.attempts():
            try:
                objects = self._session.request("POST", "/containers", deadline, body).objects()
                if not objects:
                    raise Unavailable(
                        f"{self._session.name} answered the creation of a container with nothing",
                        sent=True,
                    )
                return self._container(objects[0], subnet)
            except Unavailable as fault:
                if not fault.sent:
                    raise
                made = self._recover(uuid, deadline, fault)
                if made is not None:
                    return made
                last = fault
                time.sleep(deadline.bound(backoff.next_s()))
            except Conflict as conflict:
                if conflict.code not in (UUID_IN_USE, DUPLICATE):
                    raise
                made = self._recover(uuid, deadline, conflict)
                if made is None:
                    raise
                return made
        raise last

    def _recover(self, uuid: str, deadline: Deadline, fault: Fault) -> Container | None:
        """The container of ours that a lost reply may have created; raises `fault` when nobody can tell in time."""
        try:
            found = self.find_container(uuid, deadline)
        except Unavailable:
            raise fault from None
        if found is None and deadline.is_over:
            raise fault
        return found

    def find_container(self, uuid: str, deadline: Deadline) -> Container | None:
        """The container with a UUID, or None."""
        for item in self._session.list("/containers", deadline, predicate("UUID", uuid)):
            if _text(item, "UUID") == uuid:
                return self._with_interfaces(item, deadline)
        return None

    def get_container(self, vsd_id: str, deadline: Deadline) -> Container:
        """A container by its VSD id; raises NotFound."""
        objects = self._session.request("GET", f"/containers/{vsd_id}", deadline).objects()
        if not objects:
            raise NotFound(f"the VSD does not know container {vsd_id}")
        return self._with_interfaces(objects[0], deadline)

    def list_containers(self, external_id: str, deadline: Deadline) -> list[Container]:
        """Every container that carries this host's external id; complete or raises Unavailable."""
        items = self._session.list("/containers", deadline, predicate("externalID", external_id))
        found: list[Container] = []
        for count, item in enumerate(items):
            if count % 50 == 49:
                gevent.sleep(_PAUSE_S)
            if _text(item, "externalID") == external_id:
                found.append(self._with_interfaces(item, deadline))
        return found

    def _with_interfaces(self, item: dict[str, Any], deadline: Deadline) -> Container:
        """Some releases leave `interfaces` out of lists; then they are asked for."""
        if not isinstance(item.get("interfaces"), list):
            item = {
                **item,
                "interfaces": self._session.list(
                    f"/containers/{_text(item, 'ID')}/containerinterfaces", deadline
                ),
            }
        return self._container(item, None)

    @classmethod
    def _container(cls, item: dict[str, Any], subnet: Subnet | None) -> Container:
        interfaces = item.get("interfaces")
        enterprise = _text(item, "enterpriseName")
        created = item.get("creationDate")
        return Container(
            vsd_id=_text(item, "ID"),
            uuid=_text(item, "UUID"),
            name=_text(item, "name"),
            external_id=_text(item, "externalID"),
            created_ms=created if isinstance(created, int) else 0,
            interfaces=tuple(
                cls._interface(entry, enterprise, subnet)
                for entry in interfaces or []
                if isinstance(entry, dict)
            ),
            status=_text(item, "status"),
        )

    @staticmethod
    def _interface(
        item: dict[str, Any], enterprise: str, subnet: Subnet | None
    ) -> ContainerInterface:
        is_l2 = item.get("attachedNetworkType") == "L2DOMAIN" or (
            subnet is not None and subnet.place.is_l2
        )
        place = (
            subnet.place
            if subnet
            else (
                Place(enterprise, _text(item, "networkName"), "", "")
                if is_l2
                else Place(
                    enterprise,
                    _text(item, "domainName"),
                    _text(item, "zoneName"),
                    _text(item, "networkName"),
                )
            )
        )
        attached = _text(item, "attachedNetworkID") or (subnet.vsd_id if subnet else "")
        return ContainerInterface(
            vsd_id=_text(item, "ID"),
            name=_text(item, "name"),
            mac=_text(item, "MAC").lower(),
            address=_address(item.get("IPAddress")),
            prefix_len=_prefix_len(item.get("netmask")) or (subnet.cidr.prefixlen if subnet else 0),
            gateway=_address(item.get("gateway")),
            vport_id=_text(item, "VPortID"),
            subnet_id=attached,
            domain_id=_text(item, "domainID") or (attached if is_l2 else ""),
            is_l2=is_l2,
            place=place,
            endpoint_id=_text(item, "endpointID"),
            network_id=_text(item, "networkID"),
            external_id=_text(item, "externalID"),
        )

    def update_container(self, vsd_id: str, deadline: Deadline, **attributes: str) -> None:
        """Change only these attributes (UUID, name, orchestrationID); raises Conflict (UUID_IN_USE), NotFound."""
        self._session.request("PUT", f"/containers/{vsd_id}{_CONFIRMED}", deadline, attributes)

    def delete_container(self, vsd_id: str, deadline: Deadline) -> None:
        """Delete a container, its interfaces and the vPorts made with it; one that is gone is success."""
        try:
            self._session.request("DELETE", f"/containers/{vsd_id}{_CONFIRMED}", deadline)
        except NotFound:
            return

    def update_interface(self, vsd_id: str, deadline: Deadline, **attributes: str) -> None:
        """Change only these attributes of a container interface."""
        self._session.request(
            "PUT", f"/containerinterfaces/{vsd_id}{_CONFIRMED}", deadline, attributes
        )

    def interface_mac(self, vsd_id: str, deadline: Deadline) -> str:
        """The MAC that the VSD has for an interface, in lower case."""
        objects = self._session.request("GET", f"/containerinterfaces/{vsd_id}", deadline).objects()
        return _text(objects[0], "MAC").lower() if objects else ""

    def find_holder(
        self, subnet_id: str, is_l2: bool, address: Address, deadline: Deadline
    ) -> Container | None:
        """The container whose interface holds an address of a subnet, or None."""
        for item in self._interfaces(
            subnet_id, is_l2, deadline, predicate("IPAddress", str(address))
        ):
            if _address(item.get("IPAddress")) == address and _text(item, "parentID"):
                try:
                    return self.get_container(_text(item, "parentID"), deadline)
                except NotFound:
                    return None
        return None

    def used_addresses(self, subnet: Subnet, deadline: Deadline) -> set[Address]:
        """The addresses of a subnet that container interfaces hold or that are reserved: those that the VSD itself would not choose.

        It grants a reserved one to whoever asks for it (vsd §12), so who chooses must know. Complete or raises
        Unavailable, and NotFound when the subnet is gone.
        """
        found = [
            item.get("IPAddress")
            for item in self._interfaces(subnet.vsd_id, subnet.place.is_l2, deadline, None)
        ]
        static = f"/subnets/{subnet.vsd_id}/ipreservations"
        for path, key in (
            (self._reservations(subnet), "IPV4Address"),
            *(() if subnet.place.is_l2 else ((static, "IPAddress"),)),
        ):
            try:
                found += [item.get(key) for item in self._session.list(path, deadline)]
            except NotFound:  # a VSD that is older than such reservations has none
                pass
        return {address for address in map(_address, found) if address}

    def _interfaces(
        self, subnet_id: str, is_l2: bool, deadline: Deadline, filter_: str | None
    ) -> Iterable[dict[str, Any]]:
        resource = "l2domains" if is_l2 else "subnets"
        return self._session.list(f"/{resource}/{subnet_id}/containerinterfaces", deadline, filter_)

    # -- reservations (VSD 20.5 and newer) --------------------------------------------------------

    def reserve_address(
        self,
        subnet: Subnet,
        address: Address | None,
        external_id: str,
        choice: Cidr | None,
        deadline: Deadline,
    ) -> Address:
        """Reserve an address without a container (vsd §9), out of `choice` if it is given.

        Again with that address is success, unless it is somebody else's reservation. `external_id` is this request's own,
        so that a reservation whose reply was lost is found. Raises NotFound when the VSD is older than 20.5, or the subnet
        is gone; Conflict, Unavailable.
        """
        external_id = _RESERVED + external_id
        path = self._reservations(subnet)
        body: dict[str, Any] = {"IPType": "IPV4", "externalID": external_id}
        if address is not None:
            body["IPV4Address"] = str(address)
        else:
            first, last = subnet.cidr.network_address + 1, subnet.cidr.broadcast_address - 1
            if choice is not None:
                first, last = (
                    max(first, choice.network_address),
                    min(last, choice.broadcast_address),
                )
            body["allocationPools"] = [{"minAddress": str(first), "maxAddress": str(last)}]
        last: Fault = Unavailable(f"{self._session.name} was not asked")
        for backoff in self._session.attempts():
            try:
                objects = self._session.request("POST", path, deadline, body).objects()
            except Unavailable as fault:
                if not fault.sent:
                    raise
                last = fault
                found = self._reserved_as(path, external_id, deadline, fault)
                if found is not None:
                    return found
                time.sleep(deadline.bound(backoff.next_s()))
                continue
            except Conflict as conflict:
                if (
                    address is not None
                    and conflict.code == DUPLICATE_RESERVATION
                    and self._own_reservations(path, address, deadline)
                ):
                    return address
                raise
            found = _address(objects[0].get("IPV4Address")) if objects else None
            if found is None:
                raise Unavailable("the VSD answered a reservation without an address", sent=True)
            return found
        raise last

    def _reserved_as(
        self, path: str, external_id: str, deadline: Deadline, fault: Fault
    ) -> Address | None:
        """The address that a lost reply may have reserved; raises `fault` when nobody can tell in time."""
        try:
            items = self._session.list(path, deadline, predicate("externalID", external_id))
        except Unavailable:
            raise fault from None
        found = [
            _address(item.get("IPV4Address"))
            for item in items
            if _text(item, "externalID") == external_id
        ]
        if not found and deadline.is_over:
            raise fault
        return found[0] if found else None

    def cancel_reservation(self, subnet: Subnet, address: Address, deadline: Deadline) -> bool:
        """Give a reserved address back; False when there is no such reservation of a manager's. One that is in use ends with its user."""
        try:
            found = self._own_reservations(self._reservations(subnet), address, deadline)
            for item in found:
                self._session.request(
                    "DELETE", f"/vmipreservations/{_text(item, 'ID')}{_CONFIRMED}", deadline
                )
        except (NotFound, Refused):
            return False
        return bool(found)

    def _own_reservations(
        self, path: str, address: Address, deadline: Deadline
    ) -> list[dict[str, Any]]:
        """What this appliance, on whatever host, reserved at an address; an administrator's reservations are not ours to touch."""
        return [
            item
            for item in self._session.list(path, deadline, predicate("IPV4Address", str(address)))
            if _address(item.get("IPV4Address")) == address
            and _text(item, "externalID").startswith(_RESERVED)
        ]

    @staticmethod
    def _reservations(subnet: Subnet) -> str:
        return (
            f"/{'l2domains' if subnet.place.is_l2 else 'subnets'}/{subnet.vsd_id}/vmipreservations"
        )

    # -- policy groups ----------------------------------------------------------------------------

    def find_policy_group(self, name: str, domain_id: str, is_l2: bool, deadline: Deadline) -> str:
        """The id of the policy group `name` of one domain; raises Refused when it is not exactly one."""
        resource = "l2domains" if is_l2 else "domains"
        objects = self._session.list(
            f"/{resource}/{domain_id}/policygroups", deadline, predicate("name", name)
        )
        found = [
            _text(item, "ID")
            for item in objects
            if _text(item, "name") == name and item.get("entityState") != _DELETED_STATE
        ]
        if len(found) != 1:
            raise Refused(
                f"the VSD has {len(found) or 'no'} policy group {shorten(name)} in the domain of this container"
            )
        return found[0]

    def add_policy_groups(
        self, vport_id: str, group_ids: Iterable[str], deadline: Deadline
    ) -> None:
        """Put a vPort into policy groups, keeping those it is in already."""
        present = [
            _text(item, "ID")
            for item in self._session.list(f"/vports/{vport_id}/policygroups", deadline)
        ]
        wanted = [*present, *(group_id for group_id in group_ids if group_id not in present)]
        if wanted != present:
            self._session.request("PUT", f"/vports/{vport_id}/policygroups", deadline, wanted)
