"""What the hosts of a cluster write down in Consul: records of networks, and notes of replicas.

Pure. Owns nothing. A record is what the cluster knows of a network's name; a host's notes say what
it has of each name. Both are read defensively, since anybody with the token can write them: nothing
is done about a name whose record cannot be read.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import Any

from nuage_appliance.model import NetworkSpec, shorten

LONGEST_PROBLEM = 300
_LONGEST_RECORD_BYTES = 64 << 10
_LONGEST_ID = 255
_TEXTS = ("driver", "ipam_driver", "subnet", "gateway", "ip_range")
_MAPS = ("options", "ipam_options", "labels")
_OUR_DRIVER = "nuage"
_OUR_IPAM_DRIVERS = ("nuage", "nuage-ipam")


class Malformed(ValueError):
    """A value in Consul that is no record; the message is the reason, half a sentence."""


def is_ours(driver: str, ipam_driver: str) -> bool:
    """True for the drivers of the two sockets.

    False for a managed plugin's: its networks are swarm's, and an engine without the plugin would
    wait 15 s for it.
    """
    return driver == _OUR_DRIVER and ipam_driver in _OUR_IPAM_DRIVERS


def is_key(name: str) -> bool:
    """False for a name of dots only, which whatever handles URLs takes for a path upwards."""
    return bool(name.strip("."))


@dataclasses.dataclass(frozen=True)
class Record:
    """What Consul says of a name.

    `incarnation` is the NetworkID that the network has on the host where it was made, and so tells
    two networks of one name apart; `replaces` has the incarnations of that name before it. A record
    that `is_removed` stays for a while (a tombstone), so that every host sees it.
    """

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
    def read(name: str, value: bytes) -> Record:
        """Read the value of the key of `name`; raises Malformed with the reason."""
        data = _object(value)
        spec = data.get("spec")
        if not isinstance(spec, dict):
            raise Malformed("it is not a JSON object with a spec")
        for key in _TEXTS:
            if not isinstance(spec.get(key), str):
                raise Malformed(f"spec.{key} is not a text")
        for key in _MAPS:
            if not _is_map_of_texts(spec.get(key)):
                raise Malformed(f"spec.{key} is not a map of texts")
        for key in ("internal", "attachable"):
            if not isinstance(spec.get(key), bool):
                raise Malformed(f"spec.{key} is not true or false")
        if not is_ours(spec["driver"], spec["ipam_driver"]):
            raise Malformed(
                f"its drivers are {shorten(spec['driver'])} and {shorten(spec['ipam_driver'])}, "
                f"not {_OUR_DRIVER} and {_OUR_IPAM_DRIVERS[1]}"
            )
        if data.get("state") not in ("present", "removed"):
            raise Malformed("state is neither present nor removed")
        for key in ("incarnation", "origin"):
            text = data.get(key)
            if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_ID:
                raise Malformed(f"{key} is not a text of 1 to {_LONGEST_ID} letters")
        replaces = data.get("replaces")
        if not isinstance(replaces, list) or not all(isinstance(one, str) for one in replaces):
            raise Malformed("replaces is not a list of texts")
        return Record(
            spec=NetworkSpec(
                name=name,
                network_id="",
                is_internal=spec["internal"],
                is_attachable=spec["attachable"],
                **{key: spec[key] for key in (*_TEXTS, *_MAPS)},
            ),
            incarnation=data["incarnation"],
            origin=data["origin"],
            replaces=tuple(replaces),
            is_removed=data["state"] == "removed",
        )


class ReplicaState(enum.Enum):
    """How far a host's replica of a network is."""

    CREATING = "creating"
    PRESENT = "present"
    HANGING = "hanging"
    CONFLICT = "conflict"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Replica:
    """What a host has of a name: its network there, and the incarnation that this belongs to.

    `network_id` is empty while there is none; `problem` is a sentence, or empty.
    """

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
            "problem": self.problem[:LONGEST_PROBLEM],
        }


def read_replicas(value: bytes) -> dict[str, Replica]:
    """A host's notes, by name; what is malformed in them is left out."""
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    found = {}
    for name, item in data.items() if isinstance(data, dict) else ():
        replica = _replica(item)
        if replica is not None:
            found[name] = replica
    return found


def encode_replicas(replicas: Mapping[str, Replica]) -> bytes:
    """The text of a host's notes; equal notes have equal texts."""
    data = {name: replica.to_json() for name, replica in replicas.items()}
    return json.dumps(data, sort_keys=True).encode()


def _replica(item: object) -> Replica | None:
    if not isinstance(item, dict):
        return None
    incarnation, network_id = item.get("incarnation"), item.get("network_id")
    state, problem = item.get("state"), item.get("problem")
    if (
        not isinstance(incarnation, str)
        or not isinstance(network_id, str)
        or not isinstance(state, str)
        or not isinstance(problem, str)
        or state not in {one.value for one in ReplicaState}
    ):
        return None
    return Replica(incarnation, network_id, ReplicaState(state), problem)


def _object(value: bytes) -> dict[str, Any]:
    """The JSON object that a value is, or an empty one."""
    if len(value) > _LONGEST_RECORD_BYTES:
        return {}
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _is_map_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
