"""A registry in a lab host, on its loopback, where an engine wants no certificate: for what can be
pushed, pulled and upgraded.

Debian bookworm's docker-registry; fetched like the stores, never installed.
"""

import json

from nuage_lab import packages
from nuage_lab.hosts.daemon import Daemon

PACKAGE = ("docker-registry", "bookworm")
PROGRAM = packages.place(*PACKAGE) / "usr/bin/docker-registry"
ADDRESS = "127.0.0.1:5000"


def registry(host):
    """Return the registry; what it holds is in the host's files."""
    configuration = host.path("/etc/default/docker-registry.json")  # JSON is YAML too
    configuration.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "warn"},
                "http": {"addr": ADDRESS},
                "storage": {"filesystem": {"rootdirectory": "/var/lib/docker-registry"}},
            }
        )
    )
    return Daemon(
        host,
        "docker-registry",
        [PROGRAM, "serve", "/etc/default/docker-registry.json"],
        lambda: (
            host.exec(
                ["curl", "-sf", "--max-time", "5", f"http://{ADDRESS}/v2/"], check=False
            ).returncode
            == 0
        ),
    )
