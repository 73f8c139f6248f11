"""Runs the appliance with a wall clock that a test can step, and with shorter times of the audit
and of the hosts in Consul.

`WALL_CLOCK_OFFSET_FILE` names a file that holds seconds to add to the wall clock; it is read at
every look at the clock. `AUDIT_GRACE_S` replaces the audit's 60 seconds; `MEMBERSHIP_TIMES` and
`CLUSTER_TIMES` have constants of core/membership.py and core/cluster.py as JSON objects, the first
lets `hostgcafter` be less than a minute, too. Nothing else is changed: monotonic time, sockets and
timers are the real ones.
"""

import dataclasses
import json
import os
import sys
import time

_MODULE = "tests.support.shifted_clock"


def launcher(offset_file=None, grace_s=None, membership=None, cluster=None):
    """Keyword arguments that make `tests.support.appliance.Appliance` start its process through
    this module.
    """
    wanted = {
        "WALL_CLOCK_OFFSET_FILE": offset_file,
        "AUDIT_GRACE_S": grace_s,
        "MEMBERSHIP_TIMES": membership and json.dumps(membership),
        "CLUSTER_TIMES": cluster and json.dumps(cluster),
    }
    return {
        "module": _MODULE,
        "environment": {key: str(value) for key, value in wanted.items() if value is not None},
    }


def _shift(path):
    real_s, real_ns = time.time, time.time_ns

    def offset_s():
        try:
            with open(path, encoding="ascii") as stream:
                return float(stream.read() or 0)
        except FileNotFoundError:
            return 0.0

    time.time = lambda: real_s() + offset_s()
    time.time_ns = lambda: real_ns() + int(offset_s() * 1e9)


def main():
    """Patch what the environment asks for, then run the product's own entry point."""
    if "WALL_CLOCK_OFFSET_FILE" in os.environ:
        _shift(os.environ["WALL_CLOCK_OFFSET_FILE"])
    # Patches the standard library for gevent, as the product's first import.
    from nuage_appliance.__main__ import (
        main as run,
    )

    if "AUDIT_GRACE_S" in os.environ:
        from nuage_appliance.core import findings

        assert findings.GRACE_S > 1, "the product's grace is no longer called GRACE_S"
        findings.GRACE_S = float(os.environ["AUDIT_GRACE_S"])
    if "MEMBERSHIP_TIMES" in os.environ:
        from nuage_appliance import config
        from nuage_appliance.core.cluster import hosts

        _replace(hosts, "MEMBERSHIP_TIMES")
        seconds = config.rules.number(0, 259_200)
        config.KEYS["hostgcafter"] = dataclasses.replace(config.KEYS["hostgcafter"], rule=seconds)
    if "CLUSTER_TIMES" in os.environ:
        from nuage_appliance.core.cluster import replicas

        _replace(replicas, "CLUSTER_TIMES")
    return run()


def _replace(module, variable):
    for name, value in json.loads(os.environ[variable]).items():
        assert hasattr(module, name), f"the product has no {name} any more"
        setattr(module, name, value)


if __name__ == "__main__":
    sys.exit(main())
