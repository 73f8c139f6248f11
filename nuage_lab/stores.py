"""Key-value stores on the infra host:

Consul for the appliances, Consul or etcd as the engines' cluster store.

Consul is Debian bullseye's 1.8 (bookworm has none), etcd bookworm's 3.4 with its version 2
interface, which engines speak.
"""

import json

from nuage_lab import packages
from nuage_lab.hosts import underlay
from nuage_lab.hosts.daemon import Daemon
from nuage_lab.hosts.run import LabError

CONSUL_PORT, ETCD_PORT = 8500, 2379
CONSUL_URL = f"http://{underlay.INFRA_ADDRESS}:{CONSUL_PORT}"
ETCD_URL = f"http://{underlay.INFRA_ADDRESS}:{ETCD_PORT}"
PACKAGES = {"consul": ("consul", "bullseye"), "etcd": ("etcd-server", "bookworm")}
CONSUL = packages.place(*PACKAGES["consul"]) / "usr/bin/consul"
ETCD = packages.place(*PACKAGES["etcd"]) / "usr/bin/etcd"


def consul(infra, data, options=()):
    """Return the agent: one server with a data directory, so that what it holds outlives it."""
    argv = [
        CONSUL,
        "agent",
        "-server",
        "-bootstrap-expect=1",
        f"-bind={underlay.INFRA_ADDRESS}",
        f"-client={underlay.INFRA_ADDRESS}",
        "-node=infra",
        "-disable-host-node-id",
        f"-data-dir={data}",
        "-log-level=info",
        "-hcl",
        "performance { raft_multiplier = 1 }",
        "-hcl",
        "disable_update_check = true",
        *options,
    ]
    return Daemon(
        infra,
        "consul",
        argv,
        lambda: len(fetch(infra, f"{CONSUL_URL}/v1/status/leader")) > 0,
        timeout=60.0,
    )


def etcd(infra, data):
    """Return the server, with a data directory."""
    peer = "http://127.0.0.1:2380"
    argv = [
        ETCD,
        "--name",
        "infra",
        "--data-dir",
        data,
        "--enable-v2=true",
        "--listen-client-urls",
        ETCD_URL,
        "--advertise-client-urls",
        ETCD_URL,
        "--listen-peer-urls",
        peer,
        "--initial-advertise-peer-urls",
        peer,
        "--initial-cluster",
        f"infra={peer}",
    ]
    return Daemon(
        infra,
        "etcd",
        argv,
        lambda: fetch(infra, f"{ETCD_URL}/health")["health"] == "true",
        timeout=60.0,
    )


def fetch(infra, url, method="GET", body=None, headers=()):
    """One request from the infra host; returns the decoded answer, None for an empty one.

    LabError for a status of 400 or more.
    """
    argv = [
        "curl",
        "-sS",
        "--max-time",
        "10",
        "-X",
        method,
        "-w",
        "\n%{http_code}",
        *(word for line in headers for word in ("-H", line)),
    ]
    if body is not None:
        argv += ["--data-binary", "@-"]
    text, _, status = infra.exec([*argv, url], input=body).stdout.rpartition("\n")
    if int(status) >= 400:
        raise LabError(f"{method} {url}: {status} {text.strip()}")
    return json.loads(text) if text.strip() else None
