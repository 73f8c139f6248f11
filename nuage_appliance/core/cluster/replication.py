"""Which networks of a cluster this host must make, publish, remove or leave alone. Pure.

docs/MULTIHOST.md has the rules for readers of the status. Nothing is taken away because it is
absent somewhere: only because its removal, or what replaced it, is written down.

How a name is decided. Each name is decided alone, from three things: the record that Consul has of
it (the cluster's word), the networks of that name that this host's engine has, and what this host
noted of them before. The questions come in this order, and the first that applies decides:

1. *This host removed an incarnation* (`removals`): mark its record as removed. Before all else,
   since otherwise rule 2 would make the network again that somebody has just removed.
2. *No network here.* With a record that is present: CREATE. Else nothing; FORGET an old note.
3. *The name cannot be a key*: CONFLICT, for it cannot be published.
4. *A network here, but no record*: PUBLISH it, as the incarnation that it is. A record goes missing
   when Consul lost its data; then every host that has the network offers the same incarnation, the
   first one wins, and the others find themselves in rule 6.
5. *The record is removed.* If this network belongs to an incarnation that is over (`Record.gone`):
   DELETE. If not, it was made after the removal: PUBLISH it as an incarnation that replaces them.
6. *The record is present and the network fits it* (`difference`): it is the replica; HAVE.
7. *It does not fit, and belongs to an incarnation that is over*: DELETE; rule 2 then makes the new
   one.
8. *It does not fit, and is nobody's past*: two people made different networks of one name.
   CONFLICT: say so, and touch nothing.

What a network of this host is an incarnation of is known from three sources (`incarnations`): what
was noted when it was made, the label that a replica gets, and itself, when it was made here.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from nuage_appliance.core.cluster.records import (
    LONGEST_PROBLEM,
    Record,
    Replica,
    ReplicaState,
    is_key,
)
from nuage_appliance.model import NetworkSpec, shorten

REPLICA_LABEL, ORIGIN_LABEL = "net.nuage.replica-of", "net.nuage.origin"
_MOST_REPLACED = 16


def difference(mine: NetworkSpec, other: NetworkSpec) -> str:
    """Where two networks of one name differ, or an empty text.

    A subnet or gateway that was left out equals any other.
    """
    if mine.is_internal != other.is_internal:
        return "only one of them is --internal"
    for key, option in (("ipam_options", "--ipam-opt"), ("options", "--opt")):
        left, right = getattr(mine, key), getattr(other, key)
        for name in sorted(left.keys() | right.keys()):
            if left.get(name) != right.get(name):
                return _here_and_there(
                    f"{option} {name}",
                    shorten(left.get(name, "not given")),
                    shorten(right.get(name, "not given")),
                )
    for key, option in (("subnet", "--subnet"), ("gateway", "--gateway")):
        left, right = getattr(mine, key), getattr(other, key)
        if left and right and left != right:
            return _here_and_there(option, left, right)
    if mine.ip_range != other.ip_range:
        return _here_and_there(
            "--ip-range", mine.ip_range or "not given", other.ip_range or "not given"
        )
    for key, option in (("driver", "--driver"), ("ipam_driver", "--ipam-driver")):
        left, right = getattr(mine, key), getattr(other, key)
        if left != right:
            return _here_and_there(option, shorten(left), shorten(right))
    return ""


def _here_and_there(what: str, here: str, there: str) -> str:
    return f"{what} is {here} here and {there} there"


class ReplicaStep(enum.Enum):
    """What is to be done about a name."""

    PUBLISH = "write a record of this host's network"
    TOMBSTONE = "mark the record as removed"
    CREATE = "make a replica"
    DELETE = "remove this host's network"
    HAVE = "note that this host's network is the replica"
    FORGET = "note that this host has nothing of it any more"
    CONFLICT = "note that this host's network is another one"


@dataclasses.dataclass(frozen=True)
class Action:
    """One step about one name.

    `record` is what it was decided on, `network` this host's, `replica` what is to be noted.
    """

    step: ReplicaStep
    name: str
    record: Record | None = None
    network: NetworkSpec | None = None
    replica: Replica | None = None


def incarnations(network: NetworkSpec, noted: Replica | None) -> list[str]:
    """What a network of this host may be an incarnation of; the most reliable source first."""
    found = (
        [noted.incarnation] if noted is not None and noted.network_id == network.network_id else []
    )
    if network.labels.get(REPLICA_LABEL):
        found.append(network.labels[REPLICA_LABEL])
    return [*found, network.network_id]


def removals(records: Mapping[str, Record], gone: frozenset[str]) -> list[Action]:
    """Rule 1: the records of incarnations that this host's engine removed (`gone`)."""
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
    """Rules 2 to 8: the steps, in the order of the names.

    `networks` are all of this host's, `mine` what was noted of them before. Names in `unreadable`
    are left alone: what Consul says of them is unknown.
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
    # Docker lets several networks have one name: the record's own comes first, then the lowest id.
    wanted = record.incarnation if record is not None else ""
    networks = sorted(
        networks, key=lambda one: (wanted not in incarnations(one, noted), one.network_id)
    )
    if not networks:
        if record is not None and not record.is_removed:
            return Action(ReplicaStep.CREATE, name, record)
        return Action(ReplicaStep.FORGET, name) if noted is not None else None
    network = networks[0]
    known = incarnations(network, noted)

    def note(
        step: ReplicaStep, incarnation: str, state: ReplicaState, problem: str
    ) -> Action | None:
        """Note a replica, unless just this is noted already."""
        replica = Replica(incarnation, network.network_id, state, problem[:LONGEST_PROBLEM])
        return None if noted == replica else Action(step, name, record, network, replica)

    if not is_key(name):
        return note(
            ReplicaStep.CONFLICT,
            network.network_id,
            ReplicaState.CONFLICT,
            f"network {shorten(name)} is not published: "
            "a name of dots cannot be a key in Consul; give it another name",
        )
    if record is None:
        origin = network.labels.get(ORIGIN_LABEL, "")
        return Action(ReplicaStep.PUBLISH, name, Record(network, known[0], origin), network)
    is_over = bool(record.gone & set(known))
    if record.is_removed:
        if is_over:
            return Action(ReplicaStep.DELETE, name, record, network)
        replaces = (record.incarnation, *record.replaces)[:_MOST_REPLACED]
        fresh = Record(network, network.network_id, "", replaces)
        return Action(ReplicaStep.PUBLISH, name, fresh, network)
    differs = difference(network, record.spec)
    if not differs:
        several = f"this host has {len(networks)} networks of that name"
        return note(
            ReplicaStep.HAVE,
            record.incarnation,
            ReplicaState.PRESENT,
            "" if len(networks) == 1 else several,
        )
    if is_over:
        return Action(ReplicaStep.DELETE, name, record, network)
    return note(
        ReplicaStep.CONFLICT,
        network.network_id,
        ReplicaState.CONFLICT,
        f"network {shorten(name)} of this host is not the one that {shorten(record.origin)} "
        f"has published: {differs}; remove either of them",
    )
