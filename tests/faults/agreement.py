"""What must agree whenever nothing is under way: the engine, the VSD, the VRS and the links of one
host (docs/HOUSE.md).
"""


def _of_engine(api):
    """Every endpoint of a running container, as the engine shows it."""
    for container in api.containers.values():
        for entry in container["NetworkSettings"]["Networks"].values():
            yield (
                container["Id"],
                container["Name"].removeprefix("/"),
                entry["IPAddress"],
                entry["MacAddress"].lower(),
                entry["EndpointID"],
                entry["NetworkID"],
            )


def _names(value):
    if isinstance(value, list) and value and value[0] == "set":
        return value[1]
    return [value]


def disagreement(host):
    """A sentence about the first thing that does not agree, or None."""
    engine = sorted(_of_engine(host.api))
    vsd = host.containers()
    columns = {
        "Port": ["_uuid", "name"],
        "Interface": ["name", "external_ids"],
        "Nuage_Port_Table": ["name", "mac"],
        "Nuage_VM_Table": ["vm_uuid", "vm_name", "ports"],
        "Bridge": ["name", "ports", "external_ids"],
    }
    results = host.ovsdb.transact(
        *(
            {"op": "select", "table": table, "where": [], "columns": names}
            for table, names in columns.items()
        )
    )
    rows = {table: result["rows"] for table, result in zip(columns, results, strict=True)}
    ports = {row["name"]: row for row in rows["Port"] if row["name"].startswith("nln")}
    interfaces = {
        row["name"]: dict(row["external_ids"][1])
        for row in rows["Interface"]
        if row["name"].startswith("nln")
    }
    macs = {
        row["name"]: row["mac"] for row in rows["Nuage_Port_Table"] if row["name"].startswith("nln")
    }
    machines = {
        port: row
        for row in rows["Nuage_VM_Table"]
        for port in _names(row["ports"])
        if port.startswith("nln")
    }
    bridge = next(row for row in rows["Bridge"] if row["name"] == "alubr0")
    tags = {
        key.removeprefix("nuage-network-")
        for key, _ in bridge["external_ids"][1]
        if key.startswith("nuage-network-")
    }
    by_port = {one["interfaces"][0]["name"]: one for one in vsd}

    names = set(by_port)
    if len(by_port) != len(vsd):
        return (
            "two VSD containers have one port: "
            f"{[(one['UUID'], one['interfaces'][0]['name']) for one in vsd]}"
        )
    for what, found in (
        ("ports", set(ports)),
        ("interfaces", set(interfaces)),
        ("port rows", set(macs)),
        ("entities", set(machines)),
        ("links", set(host.links())),
    ):
        if found != names:
            return (
                f"the {what} are {sorted(found)}, the VSD's containers {sorted(names)}; the "
                f"engine has {[one[1:4] for one in engine]}"
            )
    places = sorted(
        (one["name"], one["interfaces"][0]["IPAddress"], one["interfaces"][0]["MAC"].lower())
        for one in vsd
    )
    if places != sorted(one[1:4] for one in engine):
        return f"the VSD has {places}, the engine {[one[1:4] for one in engine]}"
    addresses = [
        (one["interfaces"][0]["attachedNetworkID"], one["interfaces"][0]["IPAddress"])
        for one in vsd
    ]
    if len(set(addresses)) != len(addresses):
        return f"an address was handed out twice: {sorted(addresses)}"
    if {uuid for row in (ports[name] for name in names) for uuid in [tuple(row["_uuid"])]} - {
        tuple(uuid) for uuid in _names(bridge["ports"])
    }:
        return "not every port is in the bridge"
    endpoints = {
        (container_id, name, f"{address}", mac, endpoint_id, network_id)
        for container_id, name, address, mac, endpoint_id, network_id in engine
    }
    plugged = {
        (
            ids["vm_uuid"],
            ids["vm_name"],
            ids["nuage-address"].split("/")[0],
            macs[name],
            ids["nuage-endpoint-id"],
            ids["nuage-network-id"],
        )
        for name, ids in interfaces.items()
    }
    if plugged != endpoints:
        return f"plugged are {sorted(plugged)}, the engine has {sorted(endpoints)}"
    for name, container in by_port.items():
        if (machines[name]["vm_uuid"], machines[name]["vm_name"]) != (
            container["UUID"],
            container["name"],
        ):
            return (
                f"port {name} is of entity {machines[name]['vm_uuid']} "
                f"{machines[name]['vm_name']}, the VSD has {container['UUID']} {container['name']}"
            )
        if interfaces[name]["nuage-vsd-container-id"] != container["ID"]:
            return (
                f"port {name} names VSD container {interfaces[name]['nuage-vsd-container-id']}, "
                f"which is {container['ID']}"
            )
    without = {one[0] for one in engine} - {container["UUID"] for container in vsd}
    if without:
        return f"no VSD container bears the id of {sorted(without)}"
    if tags != set(host.api.networks):
        return f"the tags are of {sorted(tags)}, the engine's networks {sorted(host.api.networks)}"
    return _of_status(host.appliance.status(), len(engine), set(host.api.networks))


def _of_status(status, count, networks):
    endpoints = status["components"]["endpoints"]
    if endpoints["pending_release"] or endpoints["unplugged"]:
        return f"still to be done: {endpoints}"
    if endpoints["states"] != ({"plugged": count} if count else {}):
        return f"the appliance has {endpoints['states']}, the engine {count} endpoints"
    if set(status["networks"]) != networks:
        return (
            f"the appliance knows the networks {sorted(status['networks'])}, the engine "
            f"{sorted(networks)}"
        )
    problems = {
        name: one["problem"] for name, one in status["components"].items() if one.get("problem")
    }
    return f"the status says {problems}" if problems else None
