"""Which networks of a cluster this host must make, publish, remove or leave alone. Pure; docs/MULTIHOST.md has the rules.

A record is what Consul says of a network's name, a replica what a host has of it. Nothing is taken away because it is
absent somewhere: only because its removal, or what replaced it, is written down.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping
from typing import Any

from nuage_appliance.model import NetworkSpec, shorten

REPLICA_LABEL, ORIGIN_LABEL = "net.nuage.replica-of", "net.nuage.origin"
_MOST_REPLACED = 16
_LONGEST_RECORD_BYTES = 64 << 10
_LONGEST_PROBLEM = 300
_LONGEST_ID = 255
_TEXTS = ("driver", "ipam_driver", "subnet", "gateway", "ip_range")
_MAPS = ("options", "ipam_options", "labels")


class ReplicaState(enum.Enum):
    """How far a host's replica is; a record is present or removed only."""

    CREATING = "creating"
    PRESENT = "present"
    HANGING = "hanging"
    CONFLICT = "conflict"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Record:
    """What Consul says of a name. `incarnation` is the NetworkID where it was made, `replaces` those before it."""

    spec: NetworkSpec
    incarnation: str
    origin: str
    replaces: tuple[str, ...] = ()
    is_removed: bool = False

    @property
    def gone(self) -> frozenset[str]:
        """The incarnations that are over for sure."""
        return frozenset(self.replaces) | ({self.incarnation} if self.is_removed else frozenset())

    def to_json(self) -> dict[str, Any]:
        """The value of the record's key."""
        spec = {name: getattr(self.spec, name) for name in (*_TEXTS, *_MAPS)}
        return {
            "state": "removed" if self.is_removed else "present",
            "incarnation": self.incarnation,
            "origin": self.origin,
            "replaces": list(self.replaces),
            "spec": {
                **spec,
                "internal": self.spec.is_internal,
                "attachable": self.spec.is_attachable,
            },
        }

    @staticmethod
    def read(name: str, value: bytes) -> Record | str:
        """A record, or the reason why it cannot be one: then nothing is done about its name."""
        try:
            data = json.loads(value) if len(value) <= _LONGEST_RECORD_BYTES else None
        except (ValueError, RecursionError):
            data = None
        spec = data.get("spec") if isinstance(data, dict) else None
        if not isinstance(spec, dict):
            return "it is not a JSON object with a spec"
        for key in _TEXTS:
            if not isinstance(spec.get(key), str):
                return f"spec.{key} is not a text"
        for key in _MAPS:
            if not isinstance(spec.get(key), dict) or not all(
                isinstance(text, str) for text in spec[key].values()
            ):
                return f"spec.{key} is not a map of texts"
        if not isinstance(spec.get("internal"), bool) or not isinstance(
            spec.get("attachable"), bool
        ):
            return "spec.internal or spec.attachable is not true or false"
        if not is_ours(spec["driver"], spec["ipam_driver"]):
            return f"its drivers {shorten(spec['driver'])} and {shorten(spec['ipam_driver'])} are not these"
        replaces = data.get("replaces")
        if data.get("state") not in ("present", "removed") or not all(
            isinstance(data.get(key), str) and 0 < len(data[key]) <= _LONGEST_ID
            for key in ("incarnation", "origin")
        ):
            return f"state, incarnation or origin is missing, or longer than {_LONGEST_ID} letters"
        if not isinstance(replaces, list) or not all(isinstance(text, str) for text in replaces):
            return "replaces is not a list of texts"
        return Record(
            NetworkSpec(
                name=name,
                network_id="",
                is_internal=spec["internal"],
                is_attachable=spec["attachable"],
                **{key: spec[key] for key in (*_TEXTS, *_MAPS)},
            ),
            data["incarnation"],
            data["origin"],
            tuple(replaces),
            data["state"] == "removed",
        )


@dataclasses.dataclass(frozen=True)
class Replica:
    """What a host has of a name: its network there, and the incarnation that this one belongs to."""

    incarnation: str
    network_id: str
    state: ReplicaState
    problem: str = ""

    def to_json(self) -> dict[str, str]:
        """One member of the value of a host's key."""
        return {
            "incarnation": self.incarnation,
            "network_id": self.network_id,
            "state": self.state.value,
            "problem": self.problem[:_LONGEST_PROBLEM],
        }


def read_replicas(value: bytes) -> dict[str, Replica]:
    """A host's key; what is malformed in it is left out."""
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    found = {}
    for name, item in data.items() if isinstance(data, dict) else ():
        texts = [
            item.get(key) if isinstance(item, dict) else None
            for key in ("incarnation", "network_id", "state", "problem")
        ]
        if all(isinstance(text, str) for text in texts) and texts[2] in {
            state.value for state in ReplicaState
        }:
            found[name] = Replica(texts[0], texts[1], ReplicaState(texts[2]), texts[3])
    return found


def is_ours(driver: str, ipam_driver: str) -> bool:
    """True for the drivers of the two sockets; a managed plugin's networks are swarm's, and an engine without it waits 15 s for it."""
    return driver == "nuage" and ipam_driver in ("nuage", "nuage-ipam")


def is_key(name: str) -> bool:
    """False for a name that cannot be the last part of a key, because what handles URLs takes dots for a way up."""
    return bool(name.strip("."))


def difference(mine: NetworkSpec, other: NetworkSpec) -> str:
    """Where two networks of one name differ, or an empty text; a subnet or gateway that was left out equals any."""
    if mine.is_internal != other.is_internal:
        return "only one of them is --internal"
    for key, option in (("ipam_options", "--ipam-opt"), ("options", "--opt")):
        left, right = getattr(mine, key), getattr(other, key)
        for name in sorted(left.keys() | right.keys()):
            if left.get(name) != right.get(name):
                return f"{option} {name} is {shorten(left.get(name, 'not given'))} here and {shorten(right.get(name, 'not given'))} there"
    for key, option in (("subnet", "--subnet"), ("gateway", "--gateway")):
        left, right = getattr(mine, key), getattr(other, key)
        if left and right and left != right:
            return f"{option} is {left} here and {right} there"
    if mine.ip_range != other.ip_range:
        return f"--ip-range is {mine.ip_range or 'not given'} here and {other.ip_range or 'not given'} there"
    for key, what in (("driver", "--driver"), ("ipam_driver", "--ipam-driver")):
        if getattr(mine, key) != getattr(other, key):
            return f"{what} is {shorten(getattr(mine, key))} here and {shorten(getattr(other, key))} there"
    return ""


class ReplicaStep(enum.Enum):
    """What is to be done about a name."""

    PUBLISH = "write a record of this host's network"
    TOMBSTONE = "mark the record as removed"
    CREATE = "make a replica"
    DELETE = "remove this host's network"
    HAVE = "this host's network is the replica"
    FORGET = "this host has nothing of it any more"
    CONFLICT = "this host's network is another one"


@dataclasses.dataclass(frozen=True)
class Action:
    """One step about one name; `record` is what it was decided on, `network` this host's, `replica` what is to be noted."""

    step: ReplicaStep
    name: str
    record: Record | None = None
    network: NetworkSpec | None = None
    replica: Replica | None = None


def incarnations(network: NetworkSpec, noted: Replica | None) -> list[str]:
    """What a network of this host may be an incarnation of, the surest first: what was noted, its label, itself."""
    found = (
        [noted.incarnation] if noted is not None and noted.network_id == network.network_id else []
    )
    if network.labels.get(REPLICA_LABEL):
        found.append(network.labels[REPLICA_LABEL])
    return [*found, network.network_id]


def removals(records: Mapping[str, Record], gone: frozenset[str]) -> list[Action]:
    """The records of incarnations that the engine of this host said it removed."""
    return [
        Action(ReplicaStep.TOMBSTONE, name, record)
        for name, record in sorted(records.items())
        if not record.is_removed and record.incarnation in gone
    ]


def decide(
    records: Mapping[str, Record],
    networks: Iterable[NetworkSpec],
    mine: Mapping[str, Replica],
    unreadable: Iterable[str] = (),
) -> list[Action]:
    """What is to be done, by name. `networks` are all of this host's, `mine` what was noted of them before.

    Pure. Names in `unreadable` are left alone, since what Consul says of them is not known.
    """
    by_name: dict[str, list[NetworkSpec]] = {}
    for network in networks:
        by_name.setdefault(network.name, []).append(network)
    found = []
    for name in sorted((records.keys() | by_name.keys() | mine.keys()) - set(unreadable)):
        action = _decide(name, records.get(name), by_name.get(name, []), mine.get(name))
        if action is not None:
            found.append(action)
    return found


def _decide(
    name: str, record: Record | None, networks: list[NetworkSpec], noted: Replica | None
) -> Action | None:
    wanted = record.incarnation if record is not None else ""
    networks = sorted(
        networks, key=lambda one: (wanted not in incarnations(one, noted), one.network_id)
    )
    network = networks[0] if networks else None
    if network is None:
        if record is not None and not record.is_removed:
            return Action(ReplicaStep.CREATE, name, record)
        return Action(ReplicaStep.FORGET, name) if noted is not None else None
    known = incarnations(network, noted)
    if not is_key(name):
        replica = Replica(
            network.network_id,
            network.network_id,
            ReplicaState.CONFLICT,
            f"network {shorten(name)} is not published: a path of dots is no key in Consul; "
            "give it another name",
        )
        return (
            None
            if noted == replica
            else Action(ReplicaStep.CONFLICT, name, record, network, replica)
        )
    if record is None:
        return Action(
            ReplicaStep.PUBLISH,
            name,
            Record(network, known[0], network.labels.get(ORIGIN_LABEL, "")),
            network,
        )
    if record.is_removed:
        if record.gone & set(known):
            return Action(ReplicaStep.DELETE, name, record, network)
        return Action(
            ReplicaStep.PUBLISH,
            name,
            Record(
                network,
                network.network_id,
                "",
                (record.incarnation, *record.replaces)[:_MOST_REPLACED],
            ),
            network,
        )
    differs = difference(network, record.spec)
    if not differs:
        replica = Replica(
            record.incarnation,
            network.network_id,
            ReplicaState.PRESENT,
            "" if len(networks) == 1 else f"this host has {len(networks)} networks of that name",
        )
        return (
            None if noted == replica else Action(ReplicaStep.HAVE, name, record, network, replica)
        )
    if record.gone & set(known):
        return Action(ReplicaStep.DELETE, name, record, network)
    problem = f"network {shorten(name)} of this host is not the one that {shorten(record.origin)} has published: {differs}; remove either of them"
    replica = Replica(
        network.network_id, network.network_id, ReplicaState.CONFLICT, problem[:_LONGEST_PROBLEM]
    )
    return (
        None if noted == replica else Action(ReplicaStep.CONFLICT, name, record, network, replica)
    )
