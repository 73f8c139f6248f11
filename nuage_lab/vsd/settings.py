"""Owns the switches of the simulator that may change while it runs (vsd §15, system settings).

Never holds a secret, because the admin interface shows all of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SYSTEM_NAMES = {
    "APIKeyValidity": "key_validity_s",
    "APIKeyRenewalInterval": "key_renewal_s",
    "pageSize": "page_default",
    "pageMaxSize": "page_max",
    "maxResponse": "max_response",
    "eventProcessorTimeout": "event_timeout_s",
    "eventProcessorInterval": "event_interval_ms",
    "eventProcessorMaxEventsCount": "event_max",
    "inactiveTimeout": "event_inactive_s",
    "VMPurgeTime": "purge_s",
    "VMUnreachableTime": "unreachable_s",
    "VMResyncDeletionWaitTime": "resync_deletion_s",
    "subnetResyncInterval": "subnet_resync_interval_s",
    "LRUCacheSizePerSubnet": "lru_size",
    "maxFailedLogins": "max_failed_logins",
    "statsNumberOfDataPoints": "stats_points",
    "statsMaxDataPoints": "stats_max_points",
    "DHCPOptionSize": "dhcp_options",
}

_AT_LEAST_1 = frozenset(
    ("page_default", "page_max", "max_response", "event_max", "stats_points", "stats_max_points")
)
_MOST = {"latency_ms": 3_600_000, "event_interval_ms": 3_600_000}  # what waits longer never answers
_MOST_OF_ALL = 1_000_000_000


@dataclass
class Settings:
    """The current values; a time of 0 switches a behaviour off where the comment explains it."""

    latency_ms: float = 0
    allocation: str = "lowest"
    key_validity_s: float = 86400
    key_renewal_s: float = 300
    demand_confirmation: bool = False
    maintenance: bool = False
    put_answers_200: bool = False
    page_default: int = 50
    page_max: int = 500
    max_response: int = 500
    lenient_filter: bool = False
    event_timeout_s: float = 25
    event_interval_ms: float = 250
    event_max: int = 100
    event_inactive_s: float = 600
    purge_s: float = 0  # 0: a container whose entity is gone stays DELETE_PENDING
    unreachable_s: float = 3600  # 0: the containers of a VRS that is lost stay RUNNING
    resync_deletion_s: float = 120  # 0: an unanswered resync never deletes
    subnet_resync_interval_s: float = 600
    lru_size: int = 32
    max_failed_logins: int = 0  # 0: no account is ever locked
    stats_points: int = 30
    stats_max_points: int = 10000
    dhcp_options: int = 16  # of one object

    def as_dict(self) -> dict[str, Any]:
        """Return all switches by name."""
        return asdict(self)

    def change(self, wanted: Mapping[str, object]) -> None:
        """Set the named switches, all or none.

        Takes our names and those of the VSD (SYSTEM_NAMES). Raises ValueError for an unknown name
        or a value of the wrong kind.
        """
        known = {field.name: field for field in fields(self)}
        accepted = {}
        for given_name, value in wanted.items():
            name = SYSTEM_NAMES.get(given_name, given_name)
            if name not in known:
                raise ValueError(f"unknown setting {given_name!r}; known are {', '.join(known)}")
            accepted[name] = _checked(name, known[name].type, value)
        for name, value in accepted.items():
            setattr(self, name, value)


def _checked(name: str, kind: object, value: object) -> object:
    if name == "allocation":
        if value not in ("lowest", "random"):
            raise ValueError(f"allocation must be lowest or random, not {value!r}")
        return value
    if kind in (bool, "bool"):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {value!r}")
        return value
    least, most = int(name in _AT_LEAST_1), _MOST.get(name, _MOST_OF_ALL)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least} to {most}, not {value!r}")
    return int(value) if kind in (int, "int") else value
