"""The OVSDB operations (RFC 7047 §5.2) of each change to the VRS. Pure; owns nothing.

One transaction a change, all or nothing. Plugging a port writes four rows in three tables and puts
the port into the bridge. Written one after the other, a crash in between would leave a port without
its Nuage rows, to which the VRS would give no policy; and the VRS would see, and act on, every
state in between. In one transaction it sees the port with everything that belongs to it, or
nothing.

A transaction also makes each change repeatable. Attaching first takes away whatever an earlier life
of the port left under its name (`removal`), in the same transaction, so that attaching twice, or
after a crash, or after an attach whose reply was lost, ends in the same rows and without a gap that
the container would notice.

Why the `wait`: the port is put into the bridge by a `mutate` with a condition on the bridge's name,
and a mutate whose condition fits no row changes nothing and is no error. Without the bridge (an
administrator renamed or deleted it) the transaction would succeed and leave the rows of a port that
is in no bridge; ovsdb-server would then remove the Port and Interface rows as garbage, and keep the
Nuage rows. `wait` with the bridge's name and timeout 0 fails at once when there is no such bridge,
and with it the whole transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nuage_appliance.clients.vrs_mirror import TAG
from nuage_appliance.model import Attachment, Network

Operation = dict[str, Any]

# vrs §4.1: Docker; container; started, booted; running, booted.
_DOMAIN_DOCKER, _TYPE_CONTAINER = 4, 4
_STATE = {"event": 2, "event_type": 0, "state": 1, "reason": 1}
_PORT_METADATA = [
    ("nuage-enterprise-domain", ""),
    ("nuage-enterprise-network", ""),
    ("nuage-enterprise-zone", ""),
    ("nuage-enterprise-network-type", ""),
]
_ENTITY_METADATA = [("nuage-extension", "true"), ("enterprise", "")]


def _map(pairs: Iterable[tuple[str, str]]) -> list[Any]:
    return ["map", [[key, value] for key, value in pairs]]


def _set(values: list[Any]) -> list[Any]:
    return ["set", values]


def _where(column: str, value: Any) -> list[Any]:
    return [[column, "==", value]]


def _comment(text: str) -> Operation:
    """What ovsdb-server's own log shows of the transaction."""
    return {"op": "comment", "comment": f"nuage-libnetwork {text}"}


def attach(
    attachment: Attachment, bridge_name: str, entities: set[str], port_uuids: list[str]
) -> list[Operation]:
    """Plug a port and write its rows, after taking away what an earlier life left of it.

    `entities` and `port_uuids` are what the mirror has under the port's name.
    """
    name = attachment.port_name
    bridge = {"table": "Bridge", "where": _where("name", bridge_name)}
    return [
        {
            "op": "wait",
            "timeout": 0,
            **bridge,
            "columns": ["name"],
            "until": "==",
            "rows": [{"name": bridge_name}],
        },
        *removal(name, entities | {attachment.entity_uuid}, port_uuids),
        {
            "op": "insert",
            "table": "Interface",
            "uuid-name": "interface",
            "row": {"name": name, "external_ids": _map(attachment.external_ids)},
        },
        {
            "op": "insert",
            "table": "Port",
            "uuid-name": "port",
            "row": {"name": name, "interfaces": ["named-uuid", "interface"]},
        },
        {
            "op": "mutate",
            **bridge,
            "mutations": [["ports", "insert", _set([["named-uuid", "port"]])]],
        },
        {
            "op": "insert",
            "table": "Nuage_Port_Table",
            "row": {
                "name": name,
                "mac": attachment.mac,
                "bridge": bridge_name,
                "vm_domain": _DOMAIN_DOCKER,
                "metadata": _map(_PORT_METADATA),
            },
        },
        {
            "op": "insert",
            "table": "Nuage_VM_Table",
            "row": {
                "type": _TYPE_CONTAINER,
                "domain": _DOMAIN_DOCKER,
                **_STATE,
                "vm_uuid": attachment.entity_uuid,
                "vm_name": attachment.entity_name,
                "ports": _set([name]),
                "metadata": _map(_ENTITY_METADATA),
            },
        },
        _comment(f"attach {name}"),
    ]


def removal(name: str, entities: set[str], port_uuids: list[str]) -> list[Operation]:
    """Take a port and its rows away; the Port rows' UUIDs come from the mirror (vrs §7).

    A VM row may list ports of other endpoints: it loses this port, and goes when it lists no more.
    """
    operations: list[Operation] = []
    for entity in sorted(entities):
        where = _where("vm_uuid", entity)
        operations += [
            {
                "op": "mutate",
                "table": "Nuage_VM_Table",
                "where": where,
                "mutations": [["ports", "delete", _set([name])]],
            },
            {
                "op": "delete",
                "table": "Nuage_VM_Table",
                "where": [*where, ["ports", "==", _set([])]],
            },
        ]
    operations.append({"op": "delete", "table": "Nuage_Port_Table", "where": _where("name", name)})
    if port_uuids:
        # On every bridge: the port may have been plugged under an earlier vrsbridge setting.
        stale = [["uuid", uuid] for uuid in port_uuids]
        operations.append(
            {
                "op": "mutate",
                "table": "Bridge",
                "where": [],
                "mutations": [["ports", "delete", _set(stale)]],
            }
        )
    return operations


def detach(name: str, entities: set[str], port_uuids: list[str]) -> list[Operation]:
    """Take a port and its rows away."""
    return [*removal(name, entities, port_uuids), _comment(f"detach {name}")]


def rename(port_name: str, entity_uuid: str, entity_name: str) -> list[Operation]:
    """Give the entity of a port another name, in its VM row and in the interface's external_ids."""
    return [
        {
            "op": "update",
            "table": "Nuage_VM_Table",
            "where": _where("vm_uuid", entity_uuid),
            "row": {"vm_name": entity_name},
        },
        {
            "op": "mutate",
            "table": "Interface",
            "where": _where("name", port_name),
            "mutations": [
                ["external_ids", "delete", _set(["vm_name"])],
                ["external_ids", "insert", _map([("vm_name", entity_name)])],
            ],
        },
    ]


def _mutate_tags(bridge_name: str, mutations: list[Any]) -> Operation:
    return {
        "op": "mutate",
        "table": "Bridge",
        "where": _where("name", bridge_name),
        "mutations": mutations,
    }


def remember(network: Network, bridge_name: str) -> list[Operation]:
    """Write a network's tag onto the bridge, in place of an older one."""
    key = TAG + network.network_id
    return [
        _mutate_tags(
            bridge_name,
            [
                ["external_ids", "delete", _set([key])],
                ["external_ids", "insert", _map([(key, network.to_tag())])],
            ],
        )
    ]


def forget(tag: str, bridge_name: str) -> list[Operation]:
    """Take a tag from the bridge."""
    return [_mutate_tags(bridge_name, [["external_ids", "delete", _set([tag])]])]
