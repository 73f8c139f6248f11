"""The Docker engine of a lab host."""

from nuage_lab.hosts.daemon import Daemon
from nuage_lab.hosts.http_unix import call

SOCKET = "/run/docker.sock"


def engine(host):
    """Return the host's dockerd, which starts its own containerd.

    Its program and arguments are in the host's spec.
    """
    return Daemon(
        host,
        "dockerd",
        [*host.spec.dockerd, *host.spec.dockerd_args],
        lambda: call(host.path(SOCKET), "GET", "/_ping", timeout=1.0)[0] == 200,
        timeout=60.0,
    )
