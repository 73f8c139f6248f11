"""What tests over several lab hosts share: reaching across, and what must hold on every host at the
end.
"""

import contextlib
import threading
import time

from nuage_lab.hosts.run import LabError, wait_until
from tests.support.convergence import tags
from tests.support.invariants import (
    IMAGE,
    clean,
    disagreement,
    engine_endpoints,
    links,
    ovs_endpoints,
    vsd_endpoints,
    wait_ping,
)

WAIT_S = 60.0  # for a state that comes within a second or two on a machine with nothing else to do
SERVE = ("httpd", "-f", "-h", "/www")
PAGE = "nuage-lab\n"  # what SERVE answers


def wait_page(host, container, address, seconds=WAIT_S):
    """Wait until a container gets the page that another one serves, by TCP."""

    def text():
        done = host.docker(
            "exec",
            container,
            "timeout",
            "5",
            "wget",
            "-q",
            "-O",
            "-",
            f"http://{address}/",
            check=False,
        )
        return done.stdout == PAGE

    wait_until(text, seconds, f"{container} on {host.name} reads the page of {address}", pause=0.2)


def wait_reach(host, container, address, seconds=WAIT_S):
    """Wait until a container reaches another one, which serves, by ping and by TCP."""
    wait_ping(host, container, address, seconds)
    wait_page(host, container, address, seconds)


def pings(host, container, address):
    """Tell whether an answer comes to one of three echo requests."""
    return (
        host.docker(
            "exec", container, "ping", "-c", "3", "-i", "0.3", "-W", "1", address, check=False
        ).returncode
        == 0
    )


def wait_agreement(lab, hosts, seconds=WAIT_S):
    """Wait until engine, VSD, VRS and links agree on every host, and no address is at two
    containers of all hosts.

    The subnets of a test must not overlap.
    """

    def problem():
        for host in hosts:
            found = disagreement(lab, host)
            if found:
                return f"{host.name}: {found}"
        addresses = sorted(address for host in hosts for _, _, address, _ in engine_endpoints(host))
        return f"an address twice: {addresses}" if len(set(addresses)) < len(addresses) else None

    _wait_none(problem, seconds)


def wait_nothing_left(lab, hosts, seconds=WAIT_S, with_tags=True):
    """Remove all containers and networks; wait until VSD, VRS and links have nothing of these
    hosts.

    Without tags: what a host remembers of a network that another one removed, which it is not told,
    goes with an audit only.
    """
    # First of all hosts: a network of several is not removed while one has a container.
    for host in hosts:
        ids = host.docker("ps", "-aq").stdout.split()
        if ids:
            host.docker("rm", "-f", *ids, timeout=180.0)
    for host in hosts:
        clean(host)

    def left():
        return [
            (host.name, found)
            for host in hosts
            for found in (
                vsd_endpoints(lab, host),
                ovs_endpoints(host),
                links(host),
                with_tags and tags(host),
            )
            if found
        ]

    _wait_none(lambda: left() or None, seconds)


def _wait_none(problem, seconds):
    end = time.monotonic() + seconds
    while (found := problem()) is not None:
        assert time.monotonic() < end, f"after {seconds:g} s: {found}"
        time.sleep(0.2)


@contextlib.contextmanager
def churn(host, network, streams=3):
    """Start and remove containers on a host without pause; returns the list of names that ran to
    their end.
    """
    stop, finished = threading.Event(), []

    def stream(number):
        for turn in range(10_000):
            if stop.is_set():
                return
            name = f"churn-{number}-{turn}"
            with contextlib.suppress(LabError):  # the host may be killed meanwhile
                host.docker(
                    "run",
                    "--rm",
                    "--name",
                    name,
                    "--net",
                    network,
                    "--stop-signal",
                    "KILL",
                    IMAGE,
                    "true",
                    timeout=120.0,
                )
                finished.append(name)
                continue
            stop.wait(0.1)

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    try:
        yield finished
    finally:
        stop.set()
        for thread in threads:
            thread.join()
