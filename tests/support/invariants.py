"""What must agree whenever nothing is under way: engine, VSD, OVSDB and the host's links
(docs/HOUSE.md).
"""

import ipaddress
import json
import time

IMAGE = "nuage-lab/busybox"


def networks_of_ours(host):
    """The ids of the engine's networks of this driver, also of one with a tag, as managed plugins
    have it.
    """
    listed = host.docker(
        "network", "ls", "--format", "{{.ID}} {{.Driver}}", "--no-trunc"
    ).stdout.splitlines()
    return [line.split()[0] for line in listed if line.split()[1].split(":")[0] == "nuage"]


def engine_endpoints(host):
    """What the engine has on networks of ours: (container id, name, address, MAC) for every running
    container.
    """
    ids = host.docker("ps", "-q", "--no-trunc").stdout.split()
    if not ids:
        return set()
    networks = networks_of_ours(host)
    found = set()
    for container in json.loads(host.docker("inspect", *ids).stdout):
        for entry in container["NetworkSettings"]["Networks"].values():
            if entry["NetworkID"] in networks:
                found.add(
                    (
                        container["Id"],
                        container["Name"].removeprefix("/"),
                        entry["IPAddress"],
                        entry["MacAddress"],
                    )
                )
    return found


def _tree(lab):
    for enterprise in lab.admin("GET", "/tree")["enterprises"]:
        places = [
            subnet
            for domain in enterprise["domains"]
            for zone in domain["zones"]
            for subnet in zone["subnets"]
        ]
        for place in places + enterprise["l2domains"]:
            for vport in place.get("vports", []):
                if vport.get("container"):
                    yield place, vport


def vsd_endpoints(lab, host):
    """The VSD's containers of this host: (UUID, name, address, MAC, status, vPort state)."""
    found = set()
    for _, vport in _tree(lab):
        container = vport["container"]
        if container["external_id"].startswith(f"{host.name}-"):
            found.add(
                (
                    container["uuid"],
                    container["name"],
                    container["ip"],
                    container["mac"].lower(),
                    container["status"],
                    vport["operational_state"],
                )
            )
    return found


def rows(host, table, *columns):
    """Rows of the VRS as lists in the order of the columns; sets of one member are the member."""
    query = json.dumps(
        ["Open_vSwitch", {"op": "select", "table": table, "where": [], "columns": list(columns)}]
    )
    answer = json.loads(
        host.exec(["ovsdb-client", "transact", "unix:/run/openvswitch/db.sock", query]).stdout
    )
    return [[row[column] for column in columns] for row in answer[0]["rows"]]


def ovs_endpoints(host):
    """What the VRS has of ours: (entity UUID, name, resolved address, MAC); nothing for what an
    entity's port lacks.
    """
    ports = {
        name: (address, mac)
        for name, address, mac in rows(host, "Nuage_Port_Table", "name", "ip_addr", "mac")
    }
    return {
        (uuid, name, *(ports.get(port, (None, None)) if isinstance(port, str) else (None, None)))
        for uuid, name, port in rows(host, "Nuage_VM_Table", "vm_uuid", "vm_name", "ports")
        if not isinstance(port, str) or port.startswith("nln")
    }


def links(host):
    """The bridge ports among the host's links."""
    text = host.exec(["ip", "-o", "link"]).stdout
    names = (line.split(": ")[1].split("@")[0] for line in text.splitlines())
    return {name for name in names if name.startswith("nln") and name.endswith("-1")}


def disagreement(lab, host):
    """A sentence about the first thing that does not agree, or None."""
    engine, vsd, ovs = engine_endpoints(host), vsd_endpoints(lab, host), ovs_endpoints(host)
    places = {(name, address, mac) for _, name, address, mac in engine}
    if {(name, address, mac) for _, name, address, mac, *_ in vsd} != places:
        return f"the VSD has {sorted(vsd)}, the engine {sorted(engine)}"
    if {(name, address, mac) for _, name, address, mac in ovs} != places:
        return f"the VRS has {sorted(ovs, key=str)}, the engine {sorted(engine)}"
    if {uuid for uuid, *_ in vsd} != {uuid for uuid, *_ in ovs}:
        return f"the UUIDs of the VSD and of the VRS differ: {sorted(vsd)} {sorted(ovs)}"
    missing = {container_id for container_id, *_ in engine} - {uuid for uuid, *_ in vsd}
    if missing:
        return f"no VSD container bears the id of {missing}"
    if any((status, state) != ("RUNNING", "UP") for *_, status, state in vsd):
        return f"not everything is RUNNING and UP: {sorted(vsd)}"
    ports = {name for (name,) in rows(host, "Nuage_Port_Table", "name") if name.startswith("nln")}
    if links(host) != ports:
        return f"the links are {sorted(links(host))}, the VRS ports {sorted(ports)}"
    # In one subnet: subnets of two domains may have the same addresses.
    held = [
        (id(place), vport["container"]["ip"])
        for place, vport in list(_tree(lab))
        if vport["container"]["external_id"].startswith(f"{host.name}-")
    ]
    if len(set(held)) != len(held):
        return f"an address was handed out twice: {sorted(engine)}"
    return None


def wait_agreement(lab, host, seconds=60.0):
    """Wait until everything agrees; fails with what does not."""
    deadline = time.monotonic() + seconds
    while (problem := disagreement(lab, host)) is not None:
        assert time.monotonic() < deadline, problem
        time.sleep(0.1)


def address_of(host, container, network):
    """The address of a container on a network."""
    return str(
        ipaddress.ip_address(
            host.docker(
                "inspect",
                "-f",
                f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}',
                container,
            ).stdout.strip()
        )
    )


def wait_ping(host, container, target, seconds=60.0):
    """Ping until one answer came; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while host.docker(
        "exec", container, "ping", "-c", "1", "-W", "1", target, check=False
    ).returncode:
        assert time.monotonic() < deadline, f"{container} gets no answer from {target}"


def clean(host):
    """Remove every container and every network of ours from a host."""
    ids = host.docker("ps", "-aq").stdout.split()
    if ids:
        host.docker("rm", "-f", *ids, timeout=120)
    for network in networks_of_ours(host):
        _remove_network(host, network)


def _remove_network(host, network):
    """The engine counts a network's endpoints beside its list of them, and miscounts when many
    containers go at once (moby issue 42119).

    Then it keeps a network that has none; it counts anew when it starts.
    """
    done = host.docker("network", "rm", network, check=False)
    if (
        "has active endpoints" in done.stderr
        and not json.loads(host.docker("network", "inspect", network).stdout)[0]["Containers"]
    ):
        host.engine.stop()
        host.engine.start()
        done = host.docker("network", "rm", network, check=False)
    assert done.returncode == 0, done.stderr
