"""Which Docker engines a lab host can have, and where they come from.

    20.10  the machine's packaged engine; if that is another version, a tree of Debian bookworm
    26     a tree of Debian trixie
    28     a tree of Debian forky

A tree is a small Debian in the cache that holds nothing but the engine and what it needs. Several
hosts share it, read-only; everything else of a host, the appliance and Open vSwitch with it, is the
machine's own. A cluster store needs a 20.10: the packaged one speaks etcd's version 2, bullseye's
20.10.5 is the last that speaks Consul, and runs on the machine's own containerd and runc.
"""

import re
import shutil

from nuage_lab import packages, stores
from nuage_lab.hosts.host import ENGINE_ROOT, HERE, HostSpec
from nuage_lab.hosts.run import LabError, run

SUITES = {"20.10": "bookworm", "26": "trixie", "28": "forky"}
STORES = {
    "consul": "consul://" + stores.CONSUL_URL.removeprefix("http://"),
    "etcd": "etcd://" + stores.ETCD_URL.removeprefix("http://"),
}


def spec(engine=None, store=None):
    """Return the HostSpec of an engine, "20.10", "26" or "28" (None: the packaged one), with a
    cluster store or without.

    What it needs is fetched or built at the first time, in minutes; LabError when that cannot be
    done.
    """
    check(engine, store)
    if store is None:
        return (
            HostSpec()
            if engine is None or is_packaged(engine)
            else _in_tree(packages.made(*_recipe(engine)))
        )
    arguments = (
        *HostSpec().dockerd_args,
        f"--cluster-store={STORES[store]}",
        "--cluster-advertise=eth0:2376",
    )
    if store == "consul":
        return HostSpec(
            dockerd=(str(packages.unpacked("docker.io", "bullseye") / "usr/sbin/dockerd"),),
            dockerd_args=arguments,
        )
    if not is_packaged("20.10"):
        raise LabError(
            "the cluster store etcd needs a packaged 20.10 engine; "
            f"this machine has {packaged_version() or 'none'}"
        )
    return HostSpec(dockerd_args=arguments)


def check(engine=None, store=None):
    """Refuse what there is not, before anything is fetched."""
    if store is not None and (store not in STORES or engine not in (None, "20.10")):
        raise LabError(
            f"no engine {engine} with the cluster store {store}; "
            f"there is 20.10 with {' and '.join(STORES)}"
        )
    if engine is not None and engine not in SUITES:
        raise LabError(f"no engine {engine}; there are {', '.join(SUITES)}")


def is_there(engine=None, store=None):
    """Tell whether spec would have nothing to fetch."""
    if store is not None:
        return (
            is_packaged("20.10")
            if store == "etcd"
            else packages.place("docker.io", "bullseye").is_dir()
        )
    return engine is None or is_packaged(engine) or (packages.CACHE / f"engine-{engine}").is_dir()


def is_packaged(engine):
    """Tell whether the machine's own engine is of this version."""
    return f"{packaged_version()}.".startswith(f"{engine}.")


def packaged_version():
    """Return the version of the machine's own engine, as "20.10.24+dfsg1", or None."""
    program = shutil.which("dockerd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    return program and _version([program])


def _in_tree(tree):
    return HostSpec(
        engine_tree=str(tree),
        dockerd=(
            "unshare",
            "-m",
            "--propagation",
            "unchanged",
            "sh",
            str(HERE / "engine.sh"),
            ENGINE_ROOT,
            "dockerd",
        ),
    )


def _version(command):
    text = run([*command, "--version"], timeout=30.0).stdout
    found = re.search(r"version ([^\s,]+)", text)
    if not found:
        raise LabError(f"{' '.join(map(str, command))} --version says {text!r}")
    return found[1]


def _recipe(engine):
    return f"engine-{engine}", lambda place: _build(engine, place)


def _build(engine, place):
    suite = SUITES[engine]
    client = () if engine == "20.10" else ("docker-cli",)  # a package of its own since trixie
    packages.debian_tree(place, suite, "docker.io", *client)
    for name in ("hosts", "hostname", "resolv.conf"):  # mount points of the host's own
        (place / "etc" / name).touch()
    for name in ("docker", "default"):
        (place / "etc" / name).mkdir(exist_ok=True)
    version = _version(["chroot", place, "dockerd"])
    if not version.startswith(f"{engine}."):
        raise LabError(f"Debian {suite} has the engine {version} now, not {engine}")
