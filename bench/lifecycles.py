"""10,000 lifecycles, and what the appliance keeps of them: its memory, open files, threads and
greenlets, as a curve.

A lifecycle is `docker run` until the port is plugged, then `docker rm`. Each sample is taken when
nothing of any container is left: not on the VSD, not in OVSDB, not in the kernel (which deletes
veth pairs late), not in the appliance's table. What is there before the first container is no
measure, as pools of connections and threads fill on first use; the curve is judged from the sample
at `settled` lifecycles on.
"""

from gevent import monkey

monkey.patch_all()

import time

import gevent

from bench.figures import Figure, hand_over, say
from bench.world import World, cpu_s, open_files, own_network, rss_mb, threads, together

PART = "lifecycles"
IN_FLIGHT = 32
SETTLE_S = 0.5
HEADING = (
    f"  {'lifecycles':>10} {'RSS MB':>8} {'open files':>10} {'threads':>8} {'greenlets':>9} "
    f"{'a second':>9}"
)


def run_through(world, count, prefix):
    """`count` whole lives, at most IN_FLIGHT at once, one at a time a network."""
    names = iter(range(count))

    def work(engine, net):
        for index in names:
            run = engine.create_container(net, f"{prefix}{index}")
            engine.start(run)
            world.database.committed(run.port)
            engine.remove(run)

    together(
        [(work, engine, net) for engine, net in zip(world.engines, world.networks, strict=True)]
    )


def sample(world):
    """What the appliance holds now, with nothing to do."""
    world.wait_quiet()
    gevent.sleep(SETTLE_S)
    pid = world.appliance.process.pid
    return {
        "rss": rss_mb(pid),
        "files": open_files(pid),
        "threads": threads(pid),
        "greenlets": world.ask("GET", "/greenlets")["greenlets"],
    }


def line(done, seen, rate):
    """One line of the curve."""
    return (
        f"  {done:>10} {seen['rss']:>8.1f} {seen['files']:>10} {seen['threads']:>8} "
        f"{seen['greenlets']:>9} "
    ) + (f"{rate:>9.0f}" if rate else f"{'–':>9}")


def measure(count=10_000, step=500, settled=1000):
    """All figures of this part."""
    own_network()
    with World(IN_FLIGHT) as world:
        pid = world.appliance.process.pid
        curve = {0: sample(world)}
        rates, before_s = [], cpu_s(pid)
        say(HEADING)
        say(line(0, curve[0], 0))
        for done in range(step, count + 1, step):
            started_s = time.perf_counter()
            run_through(world, step, f"l{done}-")
            rates.append(step / (time.perf_counter() - started_s))
            curve[done] = sample(world)
            say(line(done, curve[done], rates[-1]))
        used_s = cpu_s(pid) - before_s
        pause_ms = world.ask("GET", "/")["event_loop"]["longest_pause_ms"]
    last = max(curve)
    settled, half = min(settled, last), last // 2 // step * step

    def grown(key, since):
        return curve[last][key] - curve[since][key]

    def row(key, name, unit, target):
        values = [seen[key] for seen in curve.values()]
        return Figure(
            PART,
            f"{name}, {settled} → {last} lifecycles",
            unit,
            abs(grown(key, settled)),
            target,
            rounds=values,
            note=(
                f"{curve[settled][key]:.4g} → {curve[last][key]:.4g}; the rounds are the curve, "
                f"every {step}"
            ),
        )

    return [
        Figure(
            PART,
            f"memory grown, {settled} → {last} lifecycles",
            "MB",
            grown("rss", settled),
            4,
            rounds=[seen["rss"] for seen in curve.values()],
            note=(
                f"{curve[settled]['rss']:.1f} → {curve[last]['rss']:.1f}; the rounds are the "
                f"curve, every {step}"
            ),
        ),
        Figure(PART, f"memory grown, {half} → {last} lifecycles", "MB", grown("rss", half)),
        row("files", "change of open files", "", 2),
        row("greenlets", "change of greenlets", "", 2),
        row("threads", "change of native threads", "", 2),
        Figure(
            PART,
            f"lifecycles a second, {IN_FLIGHT} in flight, VSD 0 ms",
            "/s",
            sorted(rates)[len(rates) // 2],
            rounds=rates,
        ),
        Figure(PART, "processor time of the appliance, a lifecycle", "ms", used_s / last * 1000),
        Figure(PART, "hub pause, worst, by the appliance's own account", "ms", pause_ms),
    ]


if __name__ == "__main__":
    hand_over(measure, count=10_000, step=500, settled=1000)
