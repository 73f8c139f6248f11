"""Attach and detach: 64 at once against a slow VSD, and one at a time against a quick one.

The engine serialises RequestAddress and CreateEndpoint of one network, so there are 64 Docker
networks on 64 VSD subnets. An attach lasts from RequestAddress until the rows are committed in
OVSDB, seen by a monitor; the `container create` event comes just before it (64 at once) or was
handled before it (one at a time, as between `docker create` and `docker start`). A detach lasts
from RevokeExternalConnectivity until ReleaseAddress is answered; the VSD has deleted the container
then.
"""

from gevent import monkey

monkey.patch_all()

from bench.figures import hand_over, over_rounds, percentile, say
from bench.world import World, median_ms, own_network

PART = "attach"
LATENCY_MS = 50
IN_FLIGHT = 64
ARRIVALS_S = 0.009


class Rounds:
    """Values by figure, one a round."""

    def __init__(self):
        self.values = {}

    def add(self, **values):
        """Note the values of one round."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)


def setups(runs):
    """RequestAddress to Join of each run, in seconds."""
    return [run.joined_s - run.started_s for run in runs]


def detaches(runs):
    """Revoke to ReleaseAddress of each run, in seconds."""
    return [run.released_s - run.leaving_s for run in runs]


def attach_rate(runs):
    """Attaches a second, from the first RequestAddress to the last row."""
    return len(runs) / (max(run.plugged_s for run in runs) - min(run.started_s for run in runs))


def detach_rate(runs):
    """Detaches a second, from the first call to the last answer."""
    return len(runs) / (max(run.released_s for run in runs) - min(run.leaving_s for run in runs))


def spent_ms(before, after, count):
    """Processor milliseconds an operation, by process."""
    return {f"{name}": (after[name] - before[name]) / count * 1000 for name in after}


def one_round(world, count, in_flight, prefix, **how):
    """Attach and detach `count` containers; returns the runs and the processor time of
    both halves.
    """
    start = world.cpu()
    runs = world.attach(count, in_flight, prefix=prefix, **how)
    middle = world.cpu()
    world.expect(count)
    again = world.cpu()
    world.detach(runs, in_flight)
    end = world.cpu()
    world.expect(0)
    return runs, spent_ms(start, middle, count), spent_ms(again, end, count)


def measure(count=200, rounds=3):
    """All figures of this part."""
    own_network()
    many, steady, single = Rounds(), Rounds(), Rounds()
    with World(IN_FLIGHT, LATENCY_MS) as world:
        one_round(world, IN_FLIGHT, IN_FLIGHT, "warm")
        for number in range(rounds):
            runs, on, off = one_round(world, count, IN_FLIGHT, f"m{number}-")
            many.add(
                attaches=attach_rate(runs),
                detaches=detach_rate(runs),
                p50=median_ms(setups(runs)),
                p95=percentile(setups(runs), 95) * 1000,
                gone=percentile(detaches(runs), 95) * 1000,
                **{f"on {name}": value for name, value in on.items()},
                **{f"off {name}": value for name, value in off.items()},
            )
            say(
                f"  {IN_FLIGHT} in flight: {many.values['attaches'][-1]:.0f} attaches/s, "
                f"{many.values['detaches'][-1]:.0f} detaches/s"
            )
        for number in range(rounds):
            runs, _, _ = one_round(world, count, IN_FLIGHT, f"s{number}-", arrivals_s=ARRIVALS_S)
            steady.add(
                attaches=attach_rate(runs),
                p95=percentile(setups(runs), 95) * 1000,
                plugged=percentile([run.plugged_s - run.started_s for run in runs], 95) * 1000,
            )
        world.latency(0)
        for number in range(rounds):
            runs, on, off = one_round(world, count, 1, f"o{number}-", create_ahead=True)
            single.add(
                setup=median_ms(setups(runs)),
                plugged=median_ms([run.plugged_s - run.started_s for run in runs]),
                detach=median_ms(detaches(runs)),
                **{f"on {name}": value for name, value in on.items()},
                **{f"off {name}": value for name, value in off.items()},
            )
            say(
                f"  one at a time: setup {single.values['setup'][-1]:.1f} ms, plugged "
                f"{single.values['plugged'][-1]:.1f} ms, "
                f"detach {single.values['detach'][-1]:.1f} ms"
            )

    def row(of, key, name, unit, target=None, best="low", note=""):
        return over_rounds(PART, name, unit, of.values[key], target, best, note)

    under = f"VSD {LATENCY_MS} ms, {IN_FLIGHT} in flight"
    offered = f"VSD {LATENCY_MS} ms, {1 / ARRIVALS_S:.0f}/s offered"
    return [
        row(
            many,
            "attaches",
            f"{under}: attaches",
            "/s",
            100,
            "high",
            "RequestAddress … rows committed",
        ),
        row(many, "detaches", f"{under}: detaches", "/s", 100, "high", "Revoke … ReleaseAddress"),
        row(
            many,
            "p95",
            f"{under}: setup p95",
            "ms",
            150,
            note=f"RequestAddress … Join; all {IN_FLIGHT} start at once",
        ),
        row(many, "p50", f"{under}: setup p50", "ms"),
        row(many, "gone", f"{under}: detach p95", "ms"),
        row(steady, "attaches", f"{offered}: attaches", "/s", 100, "high"),
        row(steady, "p95", f"{offered}: setup p95", "ms", 150),
        row(steady, "plugged", f"{offered}: plugged p95", "ms"),
        row(
            single,
            "setup",
            "VSD 0 ms, one at a time: setup p50",
            "ms",
            6,
            note="RequestAddress … Join",
        ),
        row(
            single,
            "plugged",
            "VSD 0 ms, one at a time: plugged p50",
            "ms",
            12,
            note="RequestAddress … rows committed",
        ),
        row(
            single,
            "detach",
            "VSD 0 ms, one at a time: detach p50",
            "ms",
            15,
            note="Revoke … ReleaseAddress",
        ),
        *(
            row(rounds_, f"{half} {name}", f"processor time: {words}, {name}", "ms/op")
            for rounds_, where in ((many, under), (single, "one at a time"))
            for half, words in (("on", f"attach, {where}"), ("off", f"detach, {where}"))
            for name in ("appliance", "simulator", "ovsdb-server", "harness")
        ),
    ]


if __name__ == "__main__":
    hand_over(measure, count=200, rounds=3)
