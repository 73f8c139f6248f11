"""The keys in Consul that the appliances of one cluster share.

Owns their layout, the escaping of names in them, and the JSON of a host's state. Everything may
switch greenlets and raises the faults of clients/consul.

=========================================  ====================================================
nuage-libnetwork/CLUSTER/networks/NETWORK  what the cluster knows of a network
nuage-libnetwork/CLUSTER/replicas/HOST     what a host has of each network
nuage-libnetwork/CLUSTER/hosts/HOST        a host's versions, and whether it stopped in order
nuage-libnetwork/CLUSTER/leader            the lock of the host that returns lost ones' addresses
=========================================  ====================================================

NETWORK and HOST are percent-encoded, with nothing left as it is but letters, digits and `_.-~`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from nuage_appliance.clients.consul import Consul, Entry

_ROOT = "nuage-libnetwork"
_SERVICE = "nuage-libnetwork"


@dataclasses.dataclass(frozen=True)
class StoredNetwork:
    """A key below networks/. `is_proper` is false when it is not how `name` is written."""

    key: str
    name: str
    is_proper: bool
    entry: Entry


class ClusterStore:
    """The keys of the cluster `name`, and the services of its hosts."""

    def __init__(self, consul: Consul, name: str) -> None:
        self._consul = consul
        self.name = name
        self._root = f"{_ROOT}/{name}/"

    @property
    def problem(self) -> str:
        """Why Consul could not be used at the last try, or an empty text."""
        return self._consul.problem

    # -- networks and replicas --------------------------------------------------------------------

    def _network_key(self, name: str) -> str:
        return f"{self._root}networks/{_quote(name)}"

    def networks(self) -> list[StoredNetwork]:
        """Every key below networks/; complete or raises."""
        prefix = f"{self._root}networks/"
        found = []
        for key, entry in self._consul.read_tree(prefix).items():
            name = urllib.parse.unquote(key.removeprefix(prefix))
            found.append(StoredNetwork(key, name, key == self._network_key(name), entry))
        return found

    def wait_for_networks(self, index: int, wait_s: float) -> int:
        """Wait until a key below networks/ changes: see Consul.wait_for_change."""
        return self._consul.wait_for_change(f"{self._root}networks/", index, wait_s)

    def network(self, name: str) -> Entry | None:
        """One network's key, as the leader of a quorum has it; None when it is not there."""
        return self._consul.read(self._network_key(name))

    def write_network(self, name: str, value: Mapping[str, Any], index: int) -> bool:
        """Write a network's key if it was not changed since `index` (0: if it is not there)."""
        return self._consul.write(self._network_key(name), value, index)

    def remove_network(self, name: str, index: int) -> bool:
        """Remove a network's key if it was not changed since `index`."""
        return self._consul.remove(self._network_key(name), index)

    def replicas(self) -> dict[str, bytes]:
        """The value of each host's key below replicas/, by host; complete or raises."""
        prefix = f"{self._root}replicas/"
        return {
            urllib.parse.unquote(key.removeprefix(prefix)): entry.value
            for key, entry in self._consul.read_tree(prefix).items()
        }

    def write_replicas(self, host: str, value: Mapping[str, Any]) -> None:
        """Write a host's key below replicas/."""
        self._consul.write(f"{self._root}replicas/{_quote(host)}", value)

    # -- hosts ------------------------------------------------------------------------------------

    def hosts(self) -> dict[str, dict[str, Any]]:
        """The state of each host, by its name; a malformed one is left out. Complete or raises."""
        prefix = f"{self._root}hosts/"
        found: dict[str, dict[str, Any]] = {}
        for key, entry in self._consul.read_tree(prefix).items():
            with contextlib.suppress(ValueError, RecursionError):
                data = json.loads(entry.value)
                if isinstance(data, dict):
                    found[urllib.parse.unquote(key.removeprefix(prefix))] = data
        return found

    def write_host(self, host: str, value: Mapping[str, Any]) -> None:
        """Write a host's state, unless Consul has just this."""
        key = f"{self._root}hosts/{_quote(host)}"
        known = self._consul.read(key)
        if known is None or known.value != json.dumps(value, sort_keys=True).encode():
            self._consul.write(key, value)

    def lead(self, host: str, session: str) -> bool:
        """Take the lock of the leader, or keep it; False when another host has it."""
        return self._consul.lock(f"{self._root}leader", {"host": host}, session)

    # -- services ---------------------------------------------------------------------------------

    def service_id(self, host: str) -> str:
        """The id of a host's service, unique over all clusters of one Consul."""
        return f"{_SERVICE}-{self.name}-{_quote(host)}"

    def register(self, host: str, ttl_s: int) -> None:
        """Register a host's service, with a check that is critical `ttl_s` seconds after a beat."""
        self._consul.register(_SERVICE, self.service_id(host), self.name, ttl_s)

    def are_critical(self, hosts: Mapping[str, Any]) -> dict[str, bool]:
        """For each of `hosts` that has a service: whether its check is critical."""
        services = self._consul.critical_services(_SERVICE, self.name)
        return {
            host: services[service_id]
            for host in hosts
            if (service_id := self.service_id(host)) in services
        }


def _quote(name: str) -> str:
    return urllib.parse.quote(name, safe="")
