"""Owns the whole tree as nested plain values: enterprise, domain, zone, subnet, vPort, container.

Never shows a password or a key.
"""


def picture(store):
    """Return the nested tree as plain values."""
    return {"enterprises": [_enterprise(store, one) for one in _by_name(store.all("enterprise"))]}


def _enterprise(store, entity):
    domains, l2domains = store.within("domain", entity.id), store.within("l2domain", entity.id)
    return {
        **_named(entity),
        "domains": [_domain(store, one) for one in _by_name(domains)],
        "l2domains": [_network(store, one) for one in _by_name(l2domains)],
        "users": sorted(user.values["userName"] for user in store.within("user", entity.id)),
    }


def _domain(store, entity):
    zones = [one for one in store.within("zone", entity.id) if one.values["name"] != "BackHaulZone"]
    return {
        **_named(entity),
        "policy_groups": [_named(one) for one in _by_name(store.within("policygroup", entity.id))],
        "zones": [_zone(store, one) for one in _by_name(zones)],
    }


def _zone(store, entity):
    return {
        **_named(entity),
        "subnets": [_network(store, one) for one in _by_name(store.within("subnet", entity.id))],
    }


def _network(store, entity):
    values = entity.values
    return {
        **_named(entity),
        "address": values["address"],
        "netmask": values["netmask"],
        "gateway": values["gateway"],
        "evpn_id": values["vnId"],
        "vports": [_vport(store, one) for one in _by_name(store.within("vport", entity.id))],
    }


def _vport(store, entity):
    values = entity.values
    interface = next(iter(store.within("containerinterface", entity.id)), None)
    return {
        **_named(entity),
        "type": values["type"],
        "operational_state": values["operationalState"],
        "policy_groups": sorted(
            group.values["name"] for group in store.within("policygroup", entity.id)
        ),
        "container": _container(interface) if interface else None,
    }


def _container(interface):
    values, container = interface.values, interface.parent.values
    return {
        "id": container["ID"],
        "name": container["name"],
        "uuid": container["UUID"],
        "status": container["status"],
        "external_id": container["externalID"],
        "hypervisor_ip": container["hypervisorIP"],
        "mac": values["MAC"],
        "ip": values["IPAddress"],
        "ip6": values["IPv6Address"],
    }


def _named(entity):
    return {"id": entity.id, "name": entity.values["name"]}


def _by_name(entities):
    return sorted(entities, key=lambda entity: entity.values["name"])
