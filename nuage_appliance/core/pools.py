"""What a pool was asked for, and the pools that no network has claimed yet.

Owns the pools between RequestPool and CreateNetwork, each for a minute. Must never ask anybody, and never switches greenlets.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import logging
from collections.abc import Callable, Collection, Mapping

from nuage_appliance.base.faults import Refused, Unavailable
from nuage_appliance.model import (
    GLOBAL_SPACE,
    LOCAL_SPACE,
    Cidr,
    Pool,
    Subnet,
    Place,
    is_name,
    shorten,
)

_log = logging.getLogger(__name__)

_OPTIONS = ("organization", "domain", "zone", "subnet", "user")
_ENGINE_OPTIONS = "com.docker."
_PENDING_S = 60.0
_TWIN_S = 10.0
_BURST_S = 3.0
_MOST_PENDING = 1000


def read_options(options: Mapping[str, str]) -> tuple[Place, str]:
    """The place and the user of `--ipam-opt`; raises Refused naming the option that is missing or wrong."""
    for key, value in options.items():
        if key in _OPTIONS and value and not is_name(value):
            raise Refused(
                f"--ipam-opt {key}={shorten(value)} is not a name: it must have 1 to 255 printable characters and no blank at an end"
            )
    for key in options:
        if key not in _OPTIONS and not key.startswith(_ENGINE_OPTIONS):
            near = difflib.get_close_matches(key, _OPTIONS, n=1)
            _log.warning(
                "--ipam-opt %s is not known and is ignored%s",
                shorten(key),
                f"; did you mean {near[0]}?" if near else "",
            )
    given = {key: options.get(key, "") for key in _OPTIONS}
    for key in ("organization", "domain"):
        if not given[key]:
            raise Refused(
                f"--ipam-opt {key}=… is missing; give organization, domain, zone and subnet as they are called on the VSD"
            )
    if bool(given["zone"]) != bool(given["subnet"]):
        missing = "subnet" if given["zone"] else "zone"
        raise Refused(
            f"--ipam-opt {missing}=… is missing; an L3 domain needs both zone and subnet (give neither to use an L2 domain)"
        )
    return Place(given["organization"], given["domain"], given["zone"], given["subnet"]), given[
        "user"
    ]


def read_cidr(text: str, option: str) -> Cidr:
    """An IPv4 CIDR; raises Refused naming the option."""
    try:
        cidr = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Refused(f"{option} {shorten(text)} is not a CIDR such as 10.21.59.0/24") from None
    if cidr.version != 4:
        raise Refused(
            f"{option} {shorten(text)} is IPv6; networks of this driver are IPv4 only, so leave it out"
        )
    return cidr


def check_gateway(subnet: Subnet) -> None:
    """Raise Refused for a subnet whose gateway Docker could not use."""
    if subnet.gateway is None:
        raise Refused(
            f"the VSD's {subnet.place} has no gateway, and Docker needs one; set it on the VSD"
        )
    if subnet.gateway not in subnet.cidr:
        raise Refused(
            f"the VSD's {subnet.place} has the gateway {subnet.gateway}, which is outside of {subnet.cidr}; correct it on the VSD"
        )


@dataclasses.dataclass
class _Pending:
    pool: Pool
    since: float
    is_automatic: bool


class PendingPools:
    """The pools that were requested and not claimed yet, oldest first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: list[_Pending] = []

    def _current(self) -> list[_Pending]:
        horizon = self._clock() - _PENDING_S
        self._entries = [entry for entry in self._entries if entry.since > horizon]
        return self._entries

    def _take(self, pools: Collection[Pool]) -> None:
        self._entries = [entry for entry in self._entries if entry.pool not in pools]

    def add(self, pool: Pool, is_automatic: bool) -> None:
        """Keep a pool that was just requested; `is_automatic` without `--subnet`. Raises Unavailable when there are too many."""
        if len(self._current()) >= _MOST_PENDING:
            raise Unavailable(f"{_MOST_PENDING} networks are being created at once; try again")
        self._entries.append(_Pending(pool, self._clock(), is_automatic))

    def refuse_overlap(
        self, pool: Pool, is_automatic: bool, share_addresses: Callable[[Pool, Pool], bool]
    ) -> None:
        """Raise Refused when another request for the same addresses is so young that its network is likely being created."""
        for entry in self._current():
            is_burst = entry.is_automatic and is_automatic
            if not share_addresses(entry.pool, pool) or self._clock() - entry.since > (
                _BURST_S if is_burst else _TWIN_S
            ):
                continue
            if is_automatic:
                # The engine asks again for as long as an automatic pool overlaps a route of the host (libnetwork §3.3).
                raise Refused(
                    f"{pool.cidr} of the VSD's {pool.place} was just handed out: either another network is being created on it, or it overlaps "
                    f"with a route of this host; give --subnet={pool.cidr} if you want it nevertheless"
                )
            if entry.pool.space == pool.space:
                raise Refused(
                    f"another network is just being created on {entry.pool.cidr} of the VSD's {pool.place}; try again when it is done"
                )

    def __contains__(self, pool: Pool) -> bool:
        return any(entry.pool == pool for entry in self._current())

    def claim(self, cidr: Cidr, space: str) -> Pool | None:
        """Take the pool of a network that is being created, or None when none, or more than one, has this CIDR and space."""
        found = {
            entry.pool
            for entry in self._current()
            if entry.pool.cidr == cidr
            and (entry.pool.space == space or space not in (LOCAL_SPACE, GLOBAL_SPACE))
        }
        if len(found) != 1:
            return None
        self._take(found)
        return next(iter(found))

    def claim_on(self, place: Place, cidr: Cidr | None) -> Pool | None:
        """Take the oldest pool of this VSD subnet and CIDR."""
        for entry in self._entries:
            if entry.pool.place == place and entry.pool.cidr == cidr:
                self._entries.remove(entry)
                return entry.pool
        return None

    def claim_global(self, cidrs: Collection[str]) -> Pool | None:
        """Take every pool of the global space with one of these CIDRs; returns the one that was requested last."""
        found = [
            entry.pool
            for entry in self._entries
            if entry.pool.space == GLOBAL_SPACE and str(entry.pool.cidr) in cidrs
        ]
        self._take(found)
        return found[-1] if found else None

    def release(self, pool_id: str) -> None:
        """Forget a pool that no network will claim."""
        self._entries = [entry for entry in self._entries if entry.pool.pool_id != pool_id]
