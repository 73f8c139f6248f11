"""The VSD calls that this product makes (vsd §16), in the records of the model.

Owns nothing. Everything may switch greenlets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, NotFound, Refused
from nuage_appliance.base.json_fields import address as read_address
from nuage_appliance.base.json_fields import text
from nuage_appliance.base.yielding import in_batches
from nuage_appliance.clients import vsd_records as records
from nuage_appliance.clients.vsd_creation import create_once, look_after
from nuage_appliance.clients.vsd_records import predicate
from nuage_appliance.clients.vsd_reservations import VsdReservations
from nuage_appliance.clients.vsd_session import CONFIRMED, VsdSession
from nuage_appliance.model import (
    DUPLICATE,
    UUID_IN_USE,
    Address,
    Container,
    Place,
    Subnet,
    shorten,
)

_BATCH = 50


class Vsd:
    """The VSD's dozen calls, over one session."""

    def __init__(self, session: VsdSession) -> None:
        self._session = session
        self.reservations = VsdReservations(session)

    @property
    def is_up(self) -> bool:
        """True when the VSD answered the last call."""
        return self._session.is_up

    # -- look-ups by name -------------------------------------------------------------------------

    def _named(
        self, path: str, kind: str, option: str, name: str, within: str, deadline: Deadline
    ) -> dict[str, Any]:
        """The one live object called exactly `name` in a list, or Refused naming the option."""
        objects = self._session.list(path, deadline, predicate("name", name))
        found = [item for item in objects if records.is_live(item, name)]
        if not found:
            raise Refused(
                f"the VSD has no {kind} {shorten(name)}{within}; correct --ipam-opt {option}=…"
            )
        if len(found) > 1:
            raise Refused(
                f"the VSD has {len(found)} of {kind} {shorten(name)}{within}; "
                f"names must be unique to be used by --ipam-opt {option}=…"
            )
        return found[0]

    def _organization(self, place: Place, deadline: Deadline) -> str:
        """The id of the organization; the VSD calls it an enterprise."""
        found = self._named(
            "/enterprises", "organization", "organization", place.organization, "", deadline
        )
        return str(found["ID"])

    def find_subnet(self, place: Place, deadline: Deadline) -> Subnet:
        """The subnet, or managed L2 domain, that a place names.

        Raises Refused naming the option that is wrong.
        """
        organization_id = self._organization(place, deadline)
        within = f" in organization {shorten(place.organization)}"
        if place.is_l2:
            found = self._named(
                f"/enterprises/{organization_id}/l2domains",
                "L2 domain",
                "domain",
                place.domain,
                f"{within} (zone and subnet were not given, so domain names an L2 domain)",
                deadline,
            )
            return records.subnet(found, place, found["ID"])
        domain = self._named(
            f"/enterprises/{organization_id}/domains",
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
        return records.subnet(found, place, domain["ID"])

    def find_subnet_anywhere(self, place: Place, deadline: Deadline) -> Subnet:
        """As find_subnet, for a place without a zone, as the predecessor's records leave it.

        The subnet's name must be unique in its domain.
        """
        domain = self._named(
            f"/enterprises/{self._organization(place, deadline)}/domains",
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
        return records.subnet(found, place, domain["ID"])

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
        """Create a container with one interface; the VSD chooses the address when there is none.

        It is created at most once: `uuid` is ours, and is looked up before a POST of unknown fate
        is repeated (vsd §6.4). Raises Conflict (ADDRESS_IN_USE, SUBNET_FULL, …), NotFound for a
        subnet that is gone, Unavailable.
        """
        interface = {"name": port_name, "MAC": mac, "attachedNetworkID": subnet.vsd_id}
        if address is not None:
            interface["IPAddress"] = str(address)
        body = {
            "UUID": uuid,
            "name": uuid,
            "externalID": external_id,
            "computeProvisioned": False,
            "interfaces": [interface],
        }

        def look() -> Container | None:
            return self.find_container(uuid, deadline)

        try:
            return create_once(
                self._session,
                "/containers",
                body,
                read=lambda item: records.container(item, subnet),
                look=look,
                deadline=deadline,
            )
        except Conflict as conflict:
            # The UUID is in use: by our own POST, which the session may have sent twice.
            if conflict.code not in (UUID_IN_USE, DUPLICATE):
                raise
            made = look_after(conflict, look, deadline)
            if made is None:
                raise
            return made

    def find_container(self, uuid: str, deadline: Deadline) -> Container | None:
        """The container with a UUID, or None."""
        for item in self._session.list("/containers", deadline, predicate("UUID", uuid)):
            if text(item, "UUID") == uuid:
                return self._with_interfaces(item, deadline)
        return None

    def get_container(self, vsd_id: str, deadline: Deadline) -> Container:
        """A container by its VSD id; raises NotFound."""
        objects = self._session.request("GET", f"/containers/{vsd_id}", deadline).objects()
        if not objects:
            raise NotFound(f"the VSD does not know container {vsd_id}")
        return self._with_interfaces(objects[0], deadline)

    def list_containers(self, external_id: str, deadline: Deadline) -> list[Container]:
        """Every container with this host's external id; complete or raises Unavailable."""
        items = self._session.list("/containers", deadline, predicate("externalID", external_id))
        return [
            self._with_interfaces(item, deadline)
            for item in in_batches(items, _BATCH)
            if text(item, "externalID") == external_id
        ]

    def _with_interfaces(self, item: dict[str, Any], deadline: Deadline) -> Container:
        """Some releases leave `interfaces` out of lists: then read them."""
        if not isinstance(item.get("interfaces"), list):
            path = f"/containers/{text(item, 'ID')}/containerinterfaces"
            item = {**item, "interfaces": self._session.list(path, deadline)}
        return records.container(item, None)

    def update_container(self, vsd_id: str, deadline: Deadline, **attributes: str) -> None:
        """Change only these attributes (UUID, name, orchestrationID).

        Raises Conflict (UUID_IN_USE), NotFound.
        """
        self._session.request("PUT", f"/containers/{vsd_id}{CONFIRMED}", deadline, attributes)

    def delete_container(self, vsd_id: str, deadline: Deadline) -> None:
        """Delete a container, its interfaces and their vPorts; one that is gone is success."""
        try:
            self._session.request("DELETE", f"/containers/{vsd_id}{CONFIRMED}", deadline)
        except NotFound:
            return

    # -- interfaces and addresses -----------------------------------------------------------------

    def update_interface(self, vsd_id: str, deadline: Deadline, **attributes: str) -> None:
        """Change only these attributes of a container interface."""
        self._session.request(
            "PUT", f"/containerinterfaces/{vsd_id}{CONFIRMED}", deadline, attributes
        )

    def interface_mac(self, vsd_id: str, deadline: Deadline) -> str:
        """The MAC that the VSD has for an interface, in lower case; empty when it has none."""
        objects = self._session.request("GET", f"/containerinterfaces/{vsd_id}", deadline).objects()
        return text(objects[0], "MAC").lower() if objects else ""

    def find_holder(
        self, subnet_id: str, is_l2: bool, address: Address, deadline: Deadline
    ) -> Container | None:
        """The container whose interface has an address of a subnet, or None."""
        filter_ = predicate("IPAddress", str(address))
        for item in self._interfaces(subnet_id, is_l2, deadline, filter_):
            holder_id = text(item, "parentID")
            if read_address(item.get("IPAddress")) == address and holder_id:
                try:
                    return self.get_container(holder_id, deadline)
                except NotFound:
                    return None
        return None

    def used_addresses(self, subnet: Subnet, deadline: Deadline) -> set[Address]:
        """The addresses of a subnet that interfaces have or that are reserved.

        The VSD itself would choose none of these; but it grants a reserved one to whoever asks for
        it by number (vsd §12), so whoever chooses here must know them. Complete or raises
        Unavailable; NotFound when the subnet is gone.
        """
        items = self._interfaces(subnet.vsd_id, subnet.place.is_l2, deadline, None)
        found: set[Address] = {
            one for item in items if (one := read_address(item.get("IPAddress")))
        }
        return found | self.reservations.addresses(subnet, deadline)

    def _interfaces(
        self, subnet_id: str, is_l2: bool, deadline: Deadline, filter_: str | None
    ) -> list[dict[str, Any]]:
        resource = "l2domains" if is_l2 else "subnets"
        return self._session.list(f"/{resource}/{subnet_id}/containerinterfaces", deadline, filter_)

    # -- policy groups ----------------------------------------------------------------------------

    def find_policy_group(self, name: str, domain_id: str, is_l2: bool, deadline: Deadline) -> str:
        """The id of the policy group `name` of a domain.

        Raises Refused unless it is exactly one.
        """
        resource = "l2domains" if is_l2 else "domains"
        objects = self._session.list(
            f"/{resource}/{domain_id}/policygroups", deadline, predicate("name", name)
        )
        found = [text(item, "ID") for item in objects if records.is_live(item, name)]
        if len(found) != 1:
            raise Refused(
                f"the VSD has {len(found) or 'no'} policy group {shorten(name)} "
                "in the domain of this container"
            )
        return found[0]

    def add_policy_groups(
        self, vport_id: str, group_ids: Iterable[str], deadline: Deadline
    ) -> None:
        """Put a vPort into policy groups; those it is in already stay."""
        path = f"/vports/{vport_id}/policygroups"
        present = [text(item, "ID") for item in self._session.list(path, deadline)]
        wanted = [*present, *(group_id for group_id in group_ids if group_id not in present)]
        if wanted != present:
            self._session.request("PUT", path, deadline, wanted)
