"""Owns what the lab's VSCs ask and report: resolution and state of an entity, all networks.

Owns as well when each VRS was last heard of (vsd §10). Never waits: the long poll on changes is the
journal's. Every call is one atomic step.
"""

import time
import uuid as uuids

from . import naming
from .addressing import normal_mac
from .auth import SYSTEM
from .errors import ApiError

_UP = {"active": True, "operationalState": "UP", "hasAttachedInterfaces": True}
_DOWN = {"active": False, "operationalState": "DOWN", "hasAttachedInterfaces": False}


class VscService:
    """The side of the VSD that faces its controllers (vsd §10, vrs §10.1)."""

    def __init__(self, simulator, clock=time.monotonic):
        self._simulator = simulator
        self._clock = clock
        # Clock time by VRS; a missing VRS was not heard of since this process began.
        self._heard_s = {}
        # By ID of each container that is to be purged: a token of its latest timer. A timer whose
        # token is no longer here must not purge: the container ran again meanwhile.
        self._pending = {}
        for container in simulator.store.all("container"):
            if container.values["status"] == "DELETE_PENDING":
                self._purge_later(container)

    def resolve(self, uuid, mac):
        """Return everything that the VRS port of an entity needs.

        Without such an entity: `found` False and the reason.
        """
        container = self._container(uuid)
        if container is None:
            return {"found": False, "reason": f"no container has the UUID {uuid}"}
        interface = self._interface(container, mac)
        if interface is None:
            return {"found": False, "reason": f"no interface of container {uuid} has the MAC {mac}"}
        store, values = self._simulator.store, interface.values
        network = self._network(interface)
        groups = store.within("policygroup", values["VPortID"])
        return {
            "found": True,
            "container_id": container.id,
            "interface_id": interface.id,
            "vport_id": values["VPortID"],
            "name": container.values["name"],
            "ip": values["IPAddress"],
            "ip6": values["IPv6Address"],
            "netmask": values["netmask"],
            "gateway": values["gateway"],
            "policy_groups": sorted(group.values["name"] for group in groups),
            **self._describe(network),
            "zone": values["zoneName"],
            "network": network.values["name"],
        }

    def report(self, uuid, mac, state, hypervisor_ip, vrs_id):
        """Record that the entity of a container is `running` on a VRS, or `gone` from there.

        Ignores an unknown entity. Raises ValueError for any other state.
        """
        if state not in ("running", "gone"):
            raise ValueError(f"state must be running or gone, not {state!r}")
        container = self._container(uuid)
        interface = self._interface(container, mac) if container is not None else None
        if interface is None:
            return
        if state == "running":
            self._note_running(container, interface, hypervisor_ip, vrs_id)
        else:
            self._note_gone(container, interface)

    def heard(self, vrs_id):
        """Record a sign of life of a VRS: its unreachable containers run again."""
        self._heard_s[vrs_id] = self._clock()
        for container in self._containers_on(vrs_id, "UNREACHABLE"):
            _change(self._simulator.store, container, {"status": "RUNNING"})

    def lost(self, vrs_id):
        """Mark the containers on a VRS as unreachable, no matter when it was last heard of.

        Its next sign of life undoes that.
        """
        for container in self._containers_on(vrs_id, "RUNNING"):
            _change(self._simulator.store, container, {"status": "UNREACHABLE"})

    def look_for_lost(self):
        """Mark a VRS as lost that was silent for `unreachable_s`; to be called now and then."""
        limit_s, now_s = self._simulator.settings.unreachable_s, self._clock()
        for vrs in self._simulator.store.all("vrs"):
            vrs_id = vrs.values["name"]
            if limit_s and now_s - self._heard_s.setdefault(vrs_id, now_s) >= limit_s:
                self.lost(vrs_id)

    def _containers_on(self, vrs_id, status):
        return [
            one
            for one in self._simulator.store.all("container")
            if (one.values["VRSID"], one.values["status"]) == (vrs_id, status)
        ]

    def networks(self):
        """Return every subnet and L2 domain that can hold containers."""
        store = self._simulator.store
        entities = [
            one for one in store.all("subnet") if one.values["address"] or one.values["IPv6Address"]
        ]
        entities += store.all("l2domain")
        return [
            {
                "address": one.values["address"],
                "netmask": one.values["netmask"],
                "gateway": one.values["gateway"],
                "name": one.values["name"],
                **self._describe(one),
            }
            for one in entities
        ]

    def endpoints(self):
        """Return every interface of a running container, with the hypervisor on which it runs."""
        store = self._simulator.store
        found = []
        for container in store.all("container"):
            if container.values["status"] != "RUNNING":
                continue
            for interface in store.within("containerinterface", container.id):
                described = self._describe(self._network(interface))
                found.append(
                    {
                        "uuid": container.values["UUID"],
                        "mac": interface.values["MAC"],
                        "ip": interface.values["IPAddress"],
                        "evpn_id": described["evpn_id"],
                        "vrf_id": described["vrf_id"],
                        "hypervisor_ip": container.values["hypervisorIP"],
                    }
                )
        return found

    def _describe(self, network):
        store, values = self._simulator.store, network.values
        domain = network.ancestor("domain")
        is_l2 = domain is None
        owner = network if is_l2 else domain
        return {
            "subnet_id": network.id,
            "domain_id": owner.id,
            "domain": owner.values["name"],
            "enterprise": store.get("enterprise", network.enterprise_id).values["name"],
            "l2": is_l2,
            "gateway_mac": values["gatewayMACAddress"] if values["gateway"] else None,
            "evpn_id": values["vnId"],
            "vrf_id": 0 if is_l2 else self._simulator.numbers.number(naming.VRF, domain.id),
        }

    def _note_running(self, container, interface, hypervisor_ip, vrs_id):
        simulator, store = self._simulator, self._simulator.store
        vport = store.get("vport", interface.values["VPortID"])
        status = {
            "status": "RUNNING",
            "reasonType": "RUNNING_BOOTED",
            "hypervisorIP": hypervisor_ip,
            "VRSID": vrs_id,
        }
        _change(store, container, status)
        self._pending.pop(container.id, None)
        _change(store, vport, _UP)
        if vrs_id:
            self.heard(vrs_id)
            vrs = self._vrs(vrs_id, hypervisor_ip)
            for other in [one for one in store.within("vrs", container.id) if one is not vrs]:
                store.separate(other, container)
            store.relate(vrs, container)
            store.relate(vrs, vport)
            vrs.values["numberOfContainers"] = len(store.within("container", vrs.id))
        simulator.resyncs.answered(container)

    def _note_gone(self, container, interface):
        store = self._simulator.store
        _change(store, store.get("vport", interface.values["VPortID"]), _DOWN)
        ports = [
            store.get("vport", one.values["VPortID"])
            for one in store.within("containerinterface", container.id)
        ]
        if any(port.values["active"] for port in ports):
            return
        _change(store, container, {"status": "DELETE_PENDING", "reasonType": None})
        self._purge_later(container)

    def _purge_later(self, container):
        values = container.values
        # The container's own time wins over VMPurgeTime (vsd §10), if it is a number of seconds.
        own_s = (values["deleteExpiry"] or 0) if values["deleteMode"] == "TIMER" else 0
        delay_s = own_s if own_s > 0 else self._simulator.settings.purge_s
        if delay_s:
            since = self._pending[container.id] = object()
            self._simulator.timers.later(delay_s, self._purge, container, since)

    def _purge(self, container, since):
        if self._pending.get(container.id) is not since:
            return
        del self._pending[container.id]
        is_there = self._simulator.store.find("container", container.id) is container
        if is_there and container.values["status"] == "DELETE_PENDING":
            self._simulator.containers.delete(container, SYSTEM)

    def _vrs(self, vrs_id, hypervisor_ip):
        store = self._simulator.store
        object_id = vrs_id if _is_uuid(vrs_id) else naming.stable_id("vrs", vrs_id)
        vrs = store.find("vrs", object_id)
        if vrs is None:
            values = {
                "name": vrs_id,
                "hypervisorIdentifier": hypervisor_ip,
                "address": hypervisor_ip,
                "status": "UP",
                "personality": "VRS",
                "managementIP": hypervisor_ip,
                "hypervisorConnectionState": "UP",
            }
            vrs = store.insert("vrs", None, values, SYSTEM, object_id)
        return vrs

    def _container(self, uuid):
        found = self._simulator.store.find_by("container", "UUID", uuid)
        return found[0] if found else None

    def _interface(self, container, mac):
        try:
            wanted = normal_mac(mac)
        except ApiError:
            return None
        for interface in self._simulator.store.within("containerinterface", container.id):
            if normal_mac(interface.values["MAC"]) == wanted:
                return interface
        return None

    def _network(self, interface):
        store, network_id = self._simulator.store, interface.values["attachedNetworkID"]
        return store.find("subnet", network_id) or store.get("l2domain", network_id)


def _change(store, entity, wanted):
    changes = {name: value for name, value in wanted.items() if entity.values[name] != value}
    if changes:
        store.update(entity, changes, SYSTEM)


def _is_uuid(text):
    try:
        return str(uuids.UUID(text)) == text
    except (ValueError, AttributeError):
        return False
