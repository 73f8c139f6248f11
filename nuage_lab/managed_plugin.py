"""The appliance as a managed plugin of a lab host's engine, as swarm mode needs it.

Owns how the plugin is made, installed and removed. The host's own appliance must not run at the
same time.
"""

import contextlib
import filecmp
import shutil

from nuage_lab.hosts.host import REPOSITORY
from nuage_lab.hosts.run import LabError, run

# For `docker network create -d` and `--ipam-driver`; the tag is part of the name.
NAME = "nuage:latest"
CA_FILE = "/etc/default/nuage-vsd-ca.pem"  # the plugin sees this directory of its host
# These must exist before the plugin is enabled.
DIRECTORIES = ("/var/lib/nuage-libnetwork", "/var/log/nuage-libnetwork")
PROGRAM = "/nuage-libnetwork"
BUILD_TIMEOUT_S = 600.0
ENABLE_TIMEOUT_S = 90.0


def make(lab):
    """Make the plugin's directory in the lab's state directory and return its path.

    All hosts of the lab see it. Does nothing if it has the current binary already.
    """
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
    """Install and enable the plugin on a host; `changes` apply to the appliance's configuration."""
    directory = make(lab)
    configure(lab, host, **changes)
    host.docker("plugin", "create", name, directory)
    enable(host, name)


def configure(lab, host, **changes):
    """Write the configuration for the plugin's next start, and what it expects on the host."""
    host.write_config(CA_FILE, **{"scope": "global", **changes})
    shutil.copyfile(lab.ca_file, host.path(CA_FILE))
    for directory in DIRECTORIES:
        host.path(directory).mkdir(parents=True, exist_ok=True)


def enable(host, name=NAME):
    """Start the plugin, unless it runs."""
    if not is_enabled(host, name):
        host.docker("plugin", "enable", name, timeout=ENABLE_TIMEOUT_S)


def disable(host, name=NAME):
    """Stop the plugin, even while networks use it."""
    host.docker("plugin", "disable", "--force", name, timeout=ENABLE_TIMEOUT_S)


def is_enabled(host, name=NAME):
    """Return whether the engine runs the plugin."""
    return host.docker("plugin", "inspect", "-f", "{{.Enabled}}", name).stdout.strip() == "true"


def process(host):
    """Return the PID, in the host, of the program that serves the plugin's socket, or None."""
    listed = host.exec(["pgrep", "-f", f"^{PROGRAM}$"], check=False).stdout
    # There are two: the loader that unpacked the program, and after it the program itself.
    return max((int(word) for word in listed.split()), default=None)


def uninstall(host, name=NAME):
    """Remove the plugin, even while networks use it. Idempotent."""
    with contextlib.suppress(LabError):
        host.docker("plugin", "rm", "--force", name, timeout=ENABLE_TIMEOUT_S)
