"""Owns the checks of new interfaces and the choice of their addresses (vsd §11.2).

Never makes an object. All or nothing: if one interface is refused, the addresses of the others are
given back.
"""

from dataclasses import dataclass, field

from .addressing import normal_mac
from .errors import ApiError, conflict, duplicate, invalid, not_found
from .validation import accepted_values

ADDRESS_NAMES = {4: "IPAddress", 6: "IPv6Address"}


@dataclass
class Plan:
    """One interface that passed the checks so far."""

    network: object
    vport: object
    mac: str
    values: dict
    addresses: dict = field(default_factory=dict)


class Planner:
    """Turns the entries of an `interfaces` list into plans."""

    def __init__(self, store, addressing):
        self._store = store
        self._addressing = addressing
        self._interface = store.model.by_rest_name["containerinterface"]

    def plan(self, entries, caller):
        """Return the plans for the entries of an `interfaces` list, with their addresses taken.

        Checks in the order of vsd §11.2. Raises ApiError and takes none if one of them is refused.
        """
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise invalid("interfaces", "This value must be a list of objects.")
        plans = []
        for entry in entries:
            accepted = accepted_values(self._interface, entry, is_create=True)
            mac = normal_mac(accepted.get("MAC"))
            network, vport = self._target(accepted, caller)
            self._check_maintenance(network)
            if vport is not None and any(plan.vport is vport for plan in plans):
                raise _already_attached(vport)
            plans.append(Plan(network, vport, mac, accepted))
        seen = set()
        for plan in plans:
            is_used = plan.mac in self._addressing.state(plan.network).macs
            if is_used or (plan.network.id, plan.mac) in seen:
                raise duplicate("containerinterface", "MAC", plan.values["MAC"])
            seen.add((plan.network.id, plan.mac))
        taken = []
        try:
            for plan in plans:
                self._assign(plan, taken)
        except ApiError:
            for pool, address in taken:
                pool.undo_take(address)
            raise
        return plans

    def _target(self, accepted, caller):
        vport_id, network_id = accepted.get("VPortID"), accepted.get("attachedNetworkID")
        if vport_id:
            vport = self._store.get("vport", vport_id)
            if not caller.sees(vport.enterprise_id):
                raise not_found("vport", vport_id)
            if vport.values["type"] != "CONTAINER":
                raise invalid(
                    "VPortID", f"The vPort must be of type CONTAINER, not {vport.values['type']}."
                )
            if self._store.within("containerinterface", vport.id):
                raise _already_attached(vport)
            return vport.parent, vport
        if not network_id:
            raise invalid("attachedNetworkID", "This value is mandatory.")
        network = self._store.find("subnet", network_id) or self._store.find("l2domain", network_id)
        if network is None or not caller.sees(network.enterprise_id):
            raise not_found("subnet", network_id)
        return network, None

    @staticmethod
    def _check_maintenance(network):
        domain = network.ancestor("domain")
        for entity in (network, domain) if domain is not None else (network,):
            if entity.values["maintenanceMode"] == "ENABLED":
                what = f"{entity.resource.rest_name} {entity.values['name']}"
                text = f"The {what} is in maintenance mode; changes are refused."
                raise conflict("Maintenance", text, "attachedNetworkID")

    def _assign(self, plan, taken):
        pools = self._addressing.state(plan.network).pools
        for version, name in ADDRESS_NAMES.items():
            wanted = plan.values.get(name)
            is_automatic = (
                version == 4 or plan.network.values.get("dualStackDynamicIPAllocation") is not False
            )
            if wanted:
                address = self._addressing.check_wanted(
                    plan.network, wanted, version, name, plan.mac
                )
            elif version in pools and is_automatic:
                address = self._addressing.choose(plan.network, version, plan.mac)
            else:
                continue
            pools[version].take(address)
            taken.append((pools[version], address))
            plan.addresses[version] = address


def _already_attached(vport):
    return conflict(
        "vPort in use", f"An interface is already attached to vPort {vport.id}.", "VPortID", 7010
    )
