"""What a pool was asked for, and the pools that no network has claimed yet.

Owns the pools between RequestPool and CreateNetwork, each for a minute. Must never ask anybody, and
never switches greenlets.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from nuage_appliance.base.faults import Refused, Unavailable
from nuage_appliance.model import (
    GLOBAL_SPACE,
    LOCAL_SPACE,
    Address,
    Cidr,
    Place,
    Pool,
    Subnet,
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
_FOREIGN_SPACES = ("LocalDefault", "GlobalDefault", "default", "null")

NO_IPV6 = (
    "networks of this driver are IPv4 only: the VSD assigns their addresses; "
    "leave out --ipv6 and IPv6 subnets"
)


def read_options(options: Mapping[str, str]) -> tuple[Place, str]:
    """The place and the user of `--ipam-opt`; an option of nobody's is logged and ignored.

    Raises Refused naming the option that is missing or wrong.
    """
    for key, value in options.items():
        if key in _OPTIONS and value and not is_name(value):
            raise Refused(
                f"--ipam-opt {key}={shorten(value)} is not a name: "
                "it must have 1 to 255 printable characters and no blank at an end"
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
                f"--ipam-opt {key}=… is missing; "
                "give organization, domain, zone and subnet as they are called on the VSD"
            )
    if bool(given["zone"]) != bool(given["subnet"]):
        missing = "subnet" if given["zone"] else "zone"
        raise Refused(
            f"--ipam-opt {missing}=… is missing; "
            "an L3 domain needs both zone and subnet (give neither to use an L2 domain)"
        )
    place = Place(given["organization"], given["domain"], given["zone"], given["subnet"])
    return place, given["user"]


def read_ipam_data(ipv4: Sequence[Mapping[str, Any]], ipv6: Sequence[Any]) -> tuple[Cidr, str]:
    """The CIDR and the address space of a new network, from CreateNetwork's lists of IPAM data.

    Raises Refused (libnetwork §2.3).
    """
    if ipv6:
        raise Refused(NO_IPV6)
    if len(ipv4) != 1:
        raise Refused(
            f"the network has {len(ipv4)} IPv4 subnets; "
            "a network of this driver has exactly one, so give one --subnet or none"
        )
    space = ipv4[0].get("AddressSpace") or ""
    if space in _FOREIGN_SPACES:
        raise Refused(
            "the network driver nuage works only with its own IPAM driver; "
            "add --ipam-driver=nuage-ipam and the --ipam-opt options"
        )
    return read_cidr(str(ipv4[0].get("Pool") or ""), "Pool"), space


def read_cidr(text: str, option: str) -> Cidr:
    """An IPv4 CIDR; bits behind the prefix are ignored. Raises Refused naming the option."""
    try:
        cidr = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Refused(f"{option} {shorten(text)} is not a CIDR such as 10.21.59.0/24") from None
    if cidr.version != 4:
        raise Refused(
            f"{option} {shorten(text)} is IPv6; "
            "networks of this driver are IPv4 only, so leave it out"
        )
    return cidr


def check_gateway(subnet: Subnet) -> Address:
    """The gateway of a subnet. Raises Refused for one that Docker could not use."""
    if subnet.gateway is None:
        raise Refused(
            f"the VSD's {subnet.place} has no gateway, and Docker needs one; set it on the VSD"
        )
    if subnet.gateway not in subnet.cidr:
        raise Refused(
            f"the VSD's {subnet.place} has the gateway {subnet.gateway}, "
            f"which is outside of {subnet.cidr}; correct it on the VSD"
        )
    return subnet.gateway


@dataclasses.dataclass(frozen=True)
class PoolRequest:
    """What RequestPool asks for (libnetwork §3.3).

    `asked` is --subnet, None without; 0.0.0.0/N asks for any subnet of that size, as engine 29
    does. `address_range` is --ip-range, None without.
    """

    space: str
    place: Place
    user: str
    asked: Cidr | None
    address_range: Cidr | None

    @staticmethod
    def read(
        space: str, pool: str, sub_pool: str, options: Mapping[str, str], is_v6: bool
    ) -> PoolRequest:
        """Read the call's fields; raises Refused naming the option that is wrong."""
        if is_v6:
            raise Refused(NO_IPV6)
        if space not in (LOCAL_SPACE, GLOBAL_SPACE, "local", "global", ""):
            raise Refused(
                f"the address space {shorten(space)} is not one of nuage-ipam's "
                f"({LOCAL_SPACE}, {GLOBAL_SPACE})"
            )
        place, user = read_options(options)
        return PoolRequest(
            space=space or LOCAL_SPACE,
            place=place,
            user=user,
            asked=read_cidr(pool, "--subnet") if pool else None,
            address_range=read_cidr(sub_pool, "--ip-range") if sub_pool else None,
        )

    @property
    def is_automatic(self) -> bool:
        """True when the user chose no subnet, so that the VSD's whole subnet is meant."""
        return self.asked is None or int(self.asked.network_address) == 0

    def pool_in(self, subnet: Subnet) -> Pool:
        """The pool in the VSD's subnet; raises Refused naming the option and the right value."""
        gateway = check_gateway(subnet)
        values = f"the VSD's {subnet.place} is {subnet.cidr} with gateway {gateway}"
        cidr = subnet.cidr
        if self.asked is not None and not self.is_automatic:
            cidr = self.asked
        elif self.asked is not None and self.asked.prefixlen != subnet.cidr.prefixlen:
            raise Refused(
                f"--subnet {self.asked} asks for any subnet of size /{self.asked.prefixlen}, "
                f"but {values}; leave --subnet out"
            )
        if not _is_inside(cidr, subnet.cidr):
            raise Refused(
                f"--subnet {cidr} does not match: {values}; "
                f"use --subnet={subnet.cidr} --gateway={gateway}, or leave both out"
            )
        if self.address_range is not None and not _is_inside(self.address_range, cidr):
            raise Refused(f"--ip-range {self.address_range} is outside of {cidr}; {values}")
        return Pool(
            space=self.space,
            place=self.place,
            user=self.user,
            cidr=cidr,
            subnet_cidr=subnet.cidr,
            gateway=gateway,
            subnet_id=subnet.vsd_id,
            address_range=_normal_range(self.address_range, subnet),
        )


def pool_in(
    subnet: Subnet,
    *,
    user: str = "",
    cidr: Cidr | None = None,
    address_range: Cidr | None = None,
    space: str = LOCAL_SPACE,
) -> Pool:
    """The pool of a network that exists already.

    Raises Refused when its CIDR is not in the subnet any more.
    """
    gateway = check_gateway(subnet)
    if cidr is not None and not _is_inside(cidr, subnet.cidr):
        raise Refused(
            f"the network's subnet {cidr} is no longer the VSD's: "
            f"{subnet.place} is {subnet.cidr}; create the network anew"
        )
    return Pool(
        space=space,
        place=subnet.place,
        user=user,
        cidr=cidr or subnet.cidr,
        subnet_cidr=subnet.cidr,
        gateway=gateway,
        subnet_id=subnet.vsd_id,
        address_range=_normal_range(address_range, subnet),
    )


def _normal_range(address_range: Cidr | None, subnet: Subnet) -> Cidr | None:
    """The --ip-range of a PoolID: none where it restricts nothing.

    The same network must have the same PoolID on every host, whether its options came from
    RequestPool or from the engine's description.
    """
    return None if address_range == subnet.cidr else address_range


def _is_inside(inner: Cidr, outer: Cidr) -> bool:
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer


@dataclasses.dataclass
class _Pending:
    """A pool, when it was requested (in seconds of the clock), and whether without --subnet."""

    pool: Pool
    since: float
    is_automatic: bool


class PendingPools:
    """The pools that were requested and not claimed yet, oldest first.

    At most 1,000, each for a minute.
    """

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
        """Keep a pool that was just requested; `is_automatic` without --subnet.

        Raises Unavailable when 1,000 are kept already.
        """
        if len(self._current()) >= _MOST_PENDING:
            raise Unavailable(f"{_MOST_PENDING} networks are being created at once; try again")
        self._entries.append(_Pending(pool, self._clock(), is_automatic))

    def refuse_overlap(
        self,
        pool: Pool,
        is_automatic: bool,
        asked_at: float,
        share_addresses: Callable[[Pool, Pool], bool],
    ) -> None:
        """Raise Refused when another request for the same addresses was answered just before.

        Then its network is most likely being created. `asked_at` is when this request came, in
        seconds of the clock: the VSD is asked meanwhile, and a slow one must not make the other
        answer look old. Else an engine that asks again and again, as it does for an automatic pool
        that overlaps a route of the host (libnetwork §3.3), would never end.
        """
        for entry in self._current():
            is_burst = entry.is_automatic and is_automatic
            young_s = _BURST_S if is_burst else _TWIN_S
            if not share_addresses(entry.pool, pool) or asked_at - entry.since > young_s:
                continue
            if is_automatic:
                raise Refused(
                    f"{pool.cidr} of the VSD's {pool.place} was given to the engine a moment ago: "
                    "either it refused it, because it overlaps with a route or a network of this "
                    "host, or another network is being created on it; "
                    f"give --subnet={pool.cidr} if you want it nevertheless"
                )
            if entry.pool.space == pool.space:
                raise Refused(
                    f"another network is just being created on {entry.pool.cidr} "
                    f"of the VSD's {pool.place}; try again when it is done"
                )

    def __contains__(self, pool: Pool) -> bool:
        return any(entry.pool == pool for entry in self._current())

    def claim(self, cidr: Cidr, space: str) -> Pool | None:
        """Take the pool of a network that is being created.

        None when no pool, or more than one, has this CIDR and space.
        """
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
        """Take the oldest pool of this VSD subnet and CIDR; None when there is none."""
        for entry in self._entries:
            if entry.pool.place == place and entry.pool.cidr == cidr:
                self._entries.remove(entry)
                return entry.pool
        return None

    def claim_global(self, cidrs: Collection[str]) -> Pool | None:
        """Take every pool of the global space with one of these CIDRs.

        Returns the one that was requested last, None when there is none.
        """
        found = [
            entry.pool
            for entry in self._entries
            if entry.pool.space == GLOBAL_SPACE and str(entry.pool.cidr) in cidrs
        ]
        self._take(found)
        return found[-1] if found else None

    def forget(self, pool_id: str) -> None:
        """Forget a pool that no network will claim."""
        self._entries = [entry for entry in self._entries if entry.pool.pool_id != pool_id]
