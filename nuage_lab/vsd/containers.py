"""Owns containers and their interfaces: create all or nothing, update, delete (vsd §11).

Never answers a request and never switches greenlets, so that nobody sees a half-made container.
"""

import uuid as uuids

from .addressing import normal_mac, to_text
from .errors import Unauthorized, conflict, duplicate, invalid
from .plans import ADDRESS_NAMES, Planner
from .store import now_ms
from .validation import accepted_values

NO_CHANGES = "There are no attribute changes to modify the entity."


class Containers:
    """The handlers of the resources `container` and `containerinterface`."""

    def __init__(self, store, addressing):
        self._store = store
        self._addressing = addressing
        self._planner = Planner(store, addressing)
        self._container = store.model.by_rest_name["container"]
        self._interface = store.model.by_rest_name["containerinterface"]

    def create(self, body, caller):
        """Create a container with its interfaces and return it; checks as in vsd §11.2."""
        if not caller.may_create_containers:
            raise Unauthorized()
        values = accepted_values(self._container, body, is_create=True)
        if self._store.find_by("container", "UUID", values["UUID"]):
            raise self._uuid_in_use(values["UUID"])
        wanted = body.get("interfaces")
        plans = self._planner.plan([] if wanted is None else wanted, caller)
        enterprise_id = plans[0].network.enterprise_id if plans else caller.enterprise_id
        object_id = str(uuids.uuid4())
        values.setdefault("computeProvisioned", True)
        values.update(
            interfaces=[],
            enterpriseID=enterprise_id,
            enterpriseName=self._store.get("enterprise", enterprise_id).values["name"],
            userID=caller.owner_id,
            userName=caller.owner_name,
            domainIDs=[],
            l2DomainIDs=[],
            zoneIDs=[],
            subnetIDs=[],
            resyncInfo={
                "children": None,
                "parentType": "container",
                "parentID": object_id,
                "lastTimeResyncInitiated": 0,
                "status": "SUCCESS",
                "lastRequestTimestamp": now_ms(),
            },
        )
        container = self._store.insert(
            "container",
            None,
            values,
            caller,
            object_id,
            scopes=(enterprise_id, caller.owner_id),
            enterprise_id=enterprise_id,
        )
        for plan in plans:
            self._attach(container, plan, caller)
        self._note_networks(container)
        return container

    def create_interface(self, container, body, caller):
        """Add an interface to a container and return it."""
        if not caller.may_create_containers:
            raise Unauthorized()
        interface = self._attach(container, self._planner.plan([body], caller)[0], caller)
        self._note_networks(container)
        self._store.touch(container, caller)
        return interface

    def update(self, container, body, caller):
        """Change name, UUID and other plain attributes (vsd §11.4).

        Ignores `interfaces` and the attributes that the server fills. Raises 409/2039 without a
        change.
        """
        changes = _changed(
            container, accepted_values(self._container, body, is_create=False, allows_unknown=True)
        )
        if "UUID" in changes and self._store.find_by("container", "UUID", changes["UUID"]):
            raise self._uuid_in_use(changes["UUID"])
        if not changes:
            raise conflict("No changes to modify the entity", NO_CHANGES, code=2039)
        self._store.update(container, changes, caller)
        if "UUID" in changes:
            for interface in list(self._store.within("containerinterface", container.id)):
                self._store.update(interface, {"containerUUID": changes["UUID"]}, caller)

    def update_interface(self, interface, body, caller):
        """Change name, MAC, addresses, endpointID or networkID of an interface."""
        accepted = accepted_values(self._interface, body, is_create=False, allows_unknown=True)
        for name in ("attachedNetworkID", "VPortID"):
            if accepted.get(name) not in (None, interface.values[name]):
                what = "The attached network of an interface cannot be changed."
                raise conflict("Network cannot change", what, name, 2747)
        names = ("name", "MAC", "IPAddress", "IPv6Address", "endpointID", "networkID", "externalID")
        changes = _changed(interface, {name: accepted[name] for name in names if name in accepted})
        if not changes:
            raise conflict("No changes to modify the entity", NO_CHANGES, code=2039)
        network = self._network_of(interface)
        state = self._addressing.state(network)
        old_mac = normal_mac(interface.values["MAC"])
        new_mac = old_mac
        if "MAC" in changes:
            new_mac = normal_mac(changes["MAC"])
            if state.macs.get(new_mac, interface.id) != interface.id:
                raise duplicate("containerinterface", "MAC", changes["MAC"])
        moves = {}
        for version, name in ADDRESS_NAMES.items():
            if name in changes:
                if not changes[name]:
                    raise invalid(name, "This value cannot be null.")
                moves[version] = self._addressing.check_wanted(
                    network, changes[name], version, name, new_mac
                )
        del state.macs[old_mac]
        state.macs[new_mac] = interface.id
        for version, address in moves.items():
            self._release(network, version, interface.values[ADDRESS_NAMES[version]], caller)
            self._take(network, version, address, caller)
            changes[ADDRESS_NAMES[version]] = to_text(address, version)
        self._store.update(interface, changes, caller)

    def delete(self, container, caller):
        """Delete a container, its interfaces and the vPorts that were made with it."""
        for interface in list(self._store.within("containerinterface", container.id)):
            self._detach(interface, caller)
        self._store.remove_tree(container, caller)

    def delete_interface(self, interface, caller):
        """Delete one interface and its vPort, if that was made with it."""
        container = interface.parent
        self._detach(interface, caller)
        container.values["interfaces"] = [
            one.values for one in self._store.within("containerinterface", container.id)
        ]
        self._note_networks(container)
        self._store.touch(container, caller)

    def _attach(self, container, plan, caller):
        network, values, vport = plan.network, plan.values, plan.vport
        is_l2 = network.resource.rest_name == "l2domain"
        zone, domain = network.ancestor("zone"), network.ancestor("domain")
        if vport is None:
            vport = self._make_vport(network, caller)
        has_ipv4 = 4 in plan.addresses
        texts = {
            ADDRESS_NAMES[version]: to_text(address, version)
            for version, address in plan.addresses.items()
        }
        attributes = {
            "name": values.get("name"),
            "MAC": values["MAC"],
            "endpointID": values.get("endpointID"),
            "networkID": values.get("networkID"),
            "externalID": values.get("externalID"),
            "IPAddress": texts.get("IPAddress"),
            "IPv6Address": texts.get("IPv6Address"),
            "netmask": network.values["netmask"] if has_ipv4 else None,
            "gateway": network.values["gateway"] if has_ipv4 else None,
            "IPv6Gateway": network.values["IPv6Gateway"] if 6 in plan.addresses else None,
            "VPortID": vport.id,
            "VPortName": vport.values["name"],
            "containerUUID": container.values["UUID"],
            "networkName": network.values["name"],
            "attachedNetworkID": network.id,
            "attachedNetworkType": "L2DOMAIN" if is_l2 else "SUBNET",
            "domainID": domain.id if domain else None,
            "domainName": domain.values["name"] if domain else None,
            "zoneID": zone.id if zone else None,
            "zoneName": zone.values["name"] if zone else None,
        }
        interface = self._store.insert(
            "containerinterface",
            container,
            attributes,
            caller,
            scopes=[vport.id, *_path_ids(network)],
            enterprise_id=network.enterprise_id,
        )
        container.values["interfaces"].append(interface.values)
        self._store.add_scope(container, vport.id)
        self._addressing.state(network).macs[plan.mac] = interface.id
        for text in texts.values():
            self._addressing.mark_reservation(network, text, "ASSIGNED", caller)
        return interface

    def _make_vport(self, network, caller):
        object_id = str(uuids.uuid4())
        zone, domain = network.ancestor("zone"), network.ancestor("domain")
        values = {
            "name": object_id,
            "type": "CONTAINER",
            "addressSpoofing": "INHERITED",
            "autoCreated": True,
            "assocEntityID": network.id,
            "domainID": domain.id if domain else network.id,
            "zoneID": zone.id if zone else None,
        }
        return self._store.insert("vport", network, values, caller, object_id)

    def _detach(self, interface, caller):
        network = self._network_of(interface)
        vport = self._store.get("vport", interface.values["VPortID"])
        self._addressing.state(network).macs.pop(normal_mac(interface.values["MAC"]), None)
        self._store.remove_tree(interface, caller)
        for version, name in ADDRESS_NAMES.items():
            self._release(network, version, interface.values[name], caller)
        self._store.drop_scope(interface.parent, vport.id)
        if vport.values["autoCreated"]:
            self._store.remove_tree(vport, caller)
        else:
            down = {"active": False, "hasAttachedInterfaces": False, "operationalState": "INIT"}
            self._store.update(vport, down, caller)

    def _take(self, network, version, address, caller):
        self._addressing.state(network).pools[version].take(address)
        self._addressing.mark_reservation(network, to_text(address, version), "ASSIGNED", caller)

    def _release(self, network, version, text, caller):
        pool = self._addressing.state(network).pools.get(version)
        if text and pool is not None:
            pool.give_back_text(text)
            self._addressing.mark_reservation(network, text, "UNASSIGNED", caller)

    def _note_networks(self, container):
        wanted = {"domainIDs": [], "zoneIDs": [], "subnetIDs": [], "l2DomainIDs": []}
        for interface in self._store.within("containerinterface", container.id):
            values = interface.values
            is_l2 = values["attachedNetworkType"] == "L2DOMAIN"
            _append_once(
                wanted["l2DomainIDs" if is_l2 else "subnetIDs"], values["attachedNetworkID"]
            )
            if not is_l2:
                _append_once(wanted["domainIDs"], values["domainID"])
                _append_once(wanted["zoneIDs"], values["zoneID"])
        for name, ids in wanted.items():
            for lost in set(container.values[name]) - set(ids):
                self._store.drop_scope(container, lost)
            for object_id in ids:
                self._store.add_scope(container, object_id)
            container.values[name][:] = ids

    def _network_of(self, interface):
        network_id = interface.values["attachedNetworkID"]
        return self._store.find("subnet", network_id) or self._store.get("l2domain", network_id)

    @staticmethod
    def _uuid_in_use(uuid):
        return conflict("UUID in use", f"Another container with UUID {uuid} exists.", "UUID", 2748)


def _changed(entity, accepted):
    return {
        name: value
        for name, value in accepted.items()
        if name != "interfaces" and entity.values.get(name) != value
    }


def _path_ids(network):
    ids = [network.id]
    parent = network.parent
    while parent is not None and parent.resource.rest_name in ("zone", "domain"):
        ids.append(parent.id)
        parent = parent.parent
    return ids


def _append_once(items, item):
    if item not in items:
        items.append(item)
