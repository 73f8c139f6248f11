"""Owns invented traffic statistics of running interfaces, the same on every call (vsd §9).

Never looks at an object. Each interface has a steady rate of its own, which follows the time of
day.
"""

import bisect
import itertools
import math
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import invalid
from .settings import Settings

_PACKET_BYTES = 512
# The share of each metric per byte that an interface receives; errors and drops never happen here.
_SHARES = {
    "BYTES_IN": 1,
    "BYTES_OUT": 0.6,
    "PACKETS_IN": 1 / _PACKET_BYTES,
    "PACKETS_OUT": 0.6 / _PACKET_BYTES,
    "INGRESS_BYTE_COUNT": 1,
    "EGRESS_BYTE_COUNT": 0.6,
    "INGRESS_PACKET_COUNT": 1 / _PACKET_BYTES,
    "EGRESS_PACKET_COUNT": 0.6 / _PACKET_BYTES,
    "PACKETS_IN_ERROR": 0,
    "PACKETS_OUT_ERROR": 0,
    "PACKETS_IN_DROPPED": 0,
    "PACKETS_OUT_DROPPED": 0,
    "PACKETS_DROPPED_BY_RATE_LIMIT": 0,
}
_DEFAULT_SPAN_S = 900


def measure(
    running: Iterable[tuple[str, float]], query: Mapping[str, str], settings: Settings
) -> dict[str, Any]:
    """Return the attributes of a statistics object.

    `running` has (ID, start in epoch seconds) of each running interface. Raises the 409 for a bad
    query.
    """
    now_s = time.time()
    end_s = _number(query, "endTime", int(now_s))
    start_s = _number(query, "startTime", end_s - _DEFAULT_SPAN_S)
    points = _number(query, "numberOfDataPoints", settings.stats_points)
    if start_s >= end_s:
        raise invalid("startTime", "The start time must be before the end time.")
    if not 1 <= points <= settings.stats_max_points:
        raise invalid(
            "numberOfDataPoints", f"This value must be between 1 and {settings.stats_max_points}."
        )
    words = [word.strip() for word in query.get("metricTypes", "").split(",")]
    names = [word for word in words if word] or list(_SHARES)
    for name in names:
        if name not in _SHARES:
            raise invalid("metricTypes", f"{name} is not one of {', '.join(_SHARES)}.")
    interfaces = sorted((since, _rate(object_id)) for object_id, since in running)
    received = _received(interfaces, start_s, end_s, points, now_s)
    data = {name: [int(count * _SHARES[name]) for count in received] for name in names}
    return {
        "startTime": start_s,
        "endTime": end_s,
        "numberOfDataPoints": points,
        "version": 1,
        "statsData": data,
    }


def _received(
    interfaces: list[tuple[float, int]], start_s: float, end_s: float, points: int, now_s: float
) -> list[float]:
    starts = [since for since, _ in interfaces]
    sums = [0, *itertools.accumulate(rate for _, rate in interfaces)]
    step = (end_s - start_s) / points
    counts = []
    for number in range(points):
        at = start_s + number * step
        rate = sums[bisect.bisect_right(starts, at)] if at <= now_s else 0
        counts.append(rate * step * (1 + 0.5 * math.sin(at * math.tau / 86400)))
    return counts


def _rate(object_id: str) -> int:
    return 1000 + zlib.crc32(object_id.encode()) % 9000


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as problem:
        raise invalid(name, f"This value must be a number, not {text!r}.") from problem
