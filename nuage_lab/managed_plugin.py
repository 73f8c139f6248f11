"""The appliance as a managed plugin of a lab host's engine, as swarm mode needs it.

Owns how the plugin is made, installed and taken away. The host's own appliance must not run beside it.
"""

import contextlib
import filecmp
import shutil

from nuage_lab.hosts.host import REPOSITORY
from nuage_lab.hosts.run import LabError, run

NAME = "nuage:latest"  # what `docker network create -d` and `--ipam-driver` take: the tag belongs to the name
CA_FILE = "/etc/default/nuage-vsd-ca.pem"  # the plugin sees this directory of its host
DIRECTORIES = (
    "/var/lib/nuage-libnetwork",
    "/var/log/nuage-libnetwork",
)  # must be there before it is enabled
PROGRAM = "/nuage-libnetwork"
BUILD_TIMEOUT_S = 600.0
ENABLE_TIMEOUT_S = 90.0


def make(lab):
    """Make the plugin's directory in the lab's state directory, where all its hosts see it, and return its path."""
    directory = lab.state / "managed-plugin"
    binary = run([REPOSITORY / "scripts" / "build-binary"], timeout=BUILD_TIMEOUT_S).stdout.strip()
    made = directory / "rootfs" / PROGRAM.lstrip("/")
    if not (directory / "config.json").exists() or not filecmp.cmp(binary, made, shallow=False):
        shutil.rmtree(directory, ignore_errors=True)
        run(
            [REPOSITORY / "scripts" / "create-v2-plugin.sh", "--directory", directory],
            timeout=BUILD_TIMEOUT_S,
        )
    return directory


def install(lab, host, name=NAME, **changes):
    """Install and enable the plugin on a host. changes are of the appliance's configuration."""
    directory = make(lab)
    configure(lab, host, **changes)
    host.docker("plugin", "create", name, directory)
    enable(host, name)


def configure(lab, host, **changes):
    """Write the configuration that the plugin reads at its next start, and make what it wants to be there."""
    host.write_config(CA_FILE, **{"scope": "global", **changes})
    shutil.copyfile(lab.ca_file, host.path(CA_FILE))
    for directory in DIRECTORIES:
        host.path(directory).mkdir(parents=True, exist_ok=True)


def enable(host, name=NAME):
    """Start the plugin, unless it runs."""
    if not is_enabled(host, name):
        host.docker("plugin", "enable", name, timeout=ENABLE_TIMEOUT_S)


def disable(host, name=NAME):
    """Stop the plugin, whatever uses it."""
    host.docker("plugin", "disable", "--force", name, timeout=ENABLE_TIMEOUT_S)


def is_enabled(host, name=NAME):
    """True when the engine runs the plugin."""
    return host.docker("plugin", "inspect", "-f", "{{.Enabled}}", name).stdout.strip() == "true"


def process(host):
    """Return the pid in the host of the program that serves the plugin's socket; None when there is none."""
    found = [
        int(word) for word in host.exec(["pgrep", "-f", f"^{PROGRAM}$"], check=False).stdout.split()
    ]
    # The program has unpacked itself with a first process, which only waits for the second.
    return max(found, default=None)


def uninstall(host, name=NAME):
    """Take the plugin away, whatever uses it. Idempotent."""
    with contextlib.suppress(LabError):
        host.docker("plugin", "rm", "--force", name, timeout=ENABLE_TIMEOUT_S)
