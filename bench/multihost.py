"""Three lab hosts on one VSD with one Consul: how soon a network is on the other hosts, and
attaches by all hosts at once.

A network counts as there when the other host's engine lists it. Attaches are the driver's calls
alone, RequestAddress to Join, sent to the plugin sockets as an engine sends them, by so many
greenlets a host; three hosts are compared with one.
"""

from gevent import monkey

monkey.patch_all()

import secrets
import statistics
import tempfile
import time

import gevent

from bench.docker_run import OPTIONS, remove_tree
from bench.figures import Figure, hand_over, over_rounds, percentile, say
from nuage_lab.hosts.http_unix import call
from nuage_lab.hosts.run import wait_until
from nuage_lab.lab import PLUGIN_SOCKETS, Lab

PART = "multihost"
PREFIX = "nuage-bench-m"
ENGINE, STATUS = "/run/docker.sock", "/run/nuage-libnetwork/status.sock"
VISIBLE_S = 2.0
WAIT_S = 60.0
IN_FLIGHT = 8


def listed(host):
    """The names of the networks that an engine lists."""
    return {item["Name"] for item in call(host.path(ENGINE), "GET", "/v1.41/networks")[1]}


def status(host):
    """The appliance's components and networks."""
    return call(host.path(STATUS), "GET", "/")[1]


def create(host, name):
    """Make a network through the engine's API, as `docker network create` does."""
    options = dict(option.split("=") for option in OPTIONS)
    answer = call(
        host.path(ENGINE),
        "POST",
        "/v1.41/networks/create",
        {
            "Name": name,
            "CheckDuplicate": True,
            "Driver": "nuage",
            "IPAM": {"Driver": "nuage-ipam", "Options": options},
        },
        30.0,
    )
    if answer[0] != 201:
        raise RuntimeError(f"{host.name}: {answer}")
    return answer[1]["Id"]


def visible(hosts, count):
    """Seconds from the created network to the moment when both other engines list it, and from its
    removal to when they do not.
    """
    there, gone = [], []
    for number in range(count):
        maker, others = hosts[number % 3], [host for host in hosts if host is not hosts[number % 3]]
        network_id = create(maker, f"net-{number}")
        for seconds, wanted in ((there, True), (gone, False)):
            started_s = time.perf_counter()
            if not wanted:
                call(maker.path(ENGINE), "DELETE", f"/v1.41/networks/{network_id}")
            wait_until(
                lambda number=number, wanted=wanted, others=others: all(
                    (f"net-{number}" in listed(host)) is wanted for host in others
                ),
                WAIT_S,
                f"net-{number}",
                pause=0.005,
            )
            seconds.append(time.perf_counter() - started_s)
    return there, gone


def life(host, network_id, pool_id):
    """One endpoint's calls; returns seconds from RequestAddress to Join."""
    network, ipam = (host.path(path) for path in PLUGIN_SOCKETS)
    endpoint = secrets.token_hex(32)

    def ask(socket, method, **body):
        code, answer = call(socket, "POST", f"/{method}", body, 30.0)
        if code != 200 or answer.get("Err"):
            raise RuntimeError(f"{host.name}: {method}: {answer}")
        return answer

    started_s = time.perf_counter()
    address = ask(ipam, "IpamDriver.RequestAddress", PoolID=pool_id, Address="", Options={})[
        "Address"
    ]
    names = {"NetworkID": network_id, "EndpointID": endpoint}
    ask(
        network,
        "NetworkDriver.CreateEndpoint",
        **names,
        Interface={"Address": address, "AddressIPv6": "", "MacAddress": ""},
        Options={},
    )
    ask(network, "NetworkDriver.Join", **names, SandboxKey="", Options={})
    took_s = time.perf_counter() - started_s
    ask(network, "NetworkDriver.Leave", **names)
    ask(network, "NetworkDriver.DeleteEndpoint", **names)
    ask(ipam, "IpamDriver.ReleaseAddress", PoolID=pool_id, Address=address.split("/")[0])
    return took_s


def attach(hosts, count):
    """`count` lives on each host, IN_FLIGHT at once a host; returns lives a second over all, and
    the seconds of the attaches.
    """
    took = []

    def work(host, names):
        network_id, pool_id = next(iter(status(host)["networks"].items()))
        for _ in names:
            took.append(life(host, network_id, pool_id))

    started_s = time.perf_counter()
    jobs = [
        gevent.spawn(work, host, names)
        for host in hosts
        for names in [iter(range(count))]
        for _ in range(IN_FLIGHT)
    ]
    gevent.joinall(jobs, raise_error=True)
    return len(took) / (time.perf_counter() - started_s), took


def measure(count=30, lives=200):
    """All figures of this part."""
    state = tempfile.mkdtemp(prefix="nuage-bench-")
    lab = Lab(state, PREFIX)
    try:
        lab.up(3, appliance=False, consul=True)
        hosts = lab.hosts()
        for host in hosts:
            host.write_config(lab.ca_file, scope="global", consul=lab.consul_url)
            host.appliance.start()
        wait_until(
            lambda: (
                not any(
                    component["problem"]
                    for host in hosts
                    for component in status(host)["components"].values()
                )
            ),
            WAIT_S,
            "all hosts are well",
        )
        there, gone = visible(hosts, count)
        create(hosts[0], "attach")
        wait_until(
            lambda: all("attach" in listed(host) for host in hosts),
            WAIT_S,
            "the network of the attaches",
        )
        wait_until(
            lambda: all(len(status(host)["networks"]) == 1 for host in hosts),
            WAIT_S,
            "the network is known to each driver",
        )
        attach(hosts, 10)
        rounds = [(attach(hosts[:1], lives), attach(hosts, lives)) for _ in range(3)]
        for host in hosts:
            host.docker("network", "rm", "attach", check=False)
    finally:
        lab.down()
        remove_tree(state)
    say(
        f"  visible p50 {statistics.median(there):.3f} s; attaches a second: one host "
        f"{rounds[0][0][0]:.0f}, three {rounds[0][1][0]:.0f}"
    )
    return [
        Figure(
            PART,
            f"network on both other hosts after create, p50 of {count}",
            "s",
            statistics.median(there),
            VISIBLE_S,
        ),
        Figure(PART, "the same, p95", "s", percentile(there, 95), VISIBLE_S),
        Figure(
            PART, f"network gone from both after rm, p50 of {count}", "s", statistics.median(gone)
        ),
        Figure(PART, "the same, p95", "s", percentile(gone, 95)),
        over_rounds(
            PART,
            f"lives a second, one host ({IN_FLIGHT} in flight)",
            "/s",
            [one[0] for one, _ in rounds],
        ),
        over_rounds(
            PART,
            "lives a second, three hosts at once on the same VSD",
            "/s",
            [three[0] for _, three in rounds],
        ),
        over_rounds(
            PART,
            "three hosts ÷ one",
            "",
            [three[0] / one[0] for one, three in rounds],
            note="simulator, hosts and bench share the cores",
        ),
        over_rounds(
            PART,
            "RequestAddress to Join, three hosts, p95",
            "ms",
            [percentile(three[1], 95) * 1000 for _, three in rounds],
        ),
    ]


if __name__ == "__main__":
    hand_over(measure, count=30, lives=200)
