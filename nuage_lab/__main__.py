"""The lab's command line: scripts/lab is a door to it."""

import argparse
import contextlib
import json
import os
import sys
import time

from nuage_lab import engines, packages, registry, stores
from nuage_lab.hosts import forward, systemd_root, underlay
from nuage_lab.hosts.cuts import WIRES
from nuage_lab.hosts.run import LabError
from nuage_lab.lab import SERVICES, Lab


def up(lab, options):
    start = time.monotonic()
    lab.up(
        options.hosts,
        appliance=not options.no_appliance,
        say=say,
        consul=options.consul,
        engine=options.engine,
        store=options.store,
    )
    say(f"lab up in {time.monotonic() - start:.1f} s")


def fetch(lab, options):
    """Fetch all that can be had, and tell of the rest."""
    wanted = [
        lambda package=package: packages.unpacked(*package)
        for package in (*stores.PACKAGES.values(), registry.PACKAGE)
    ]
    names = engines.SUITES if "all" in options.engines else options.engines
    if "all" in options.engines:
        wanted += [
            lambda suite=suite: systemd_root.tree(suite) for suite in systemd_root.OTHER_SUITES
        ]
    wanted += [
        systemd_root.tree,
        lambda: engines.spec(store="consul"),
        *(lambda engine=engine: engines.spec(engine) for engine in names),
    ]
    status = 0
    for one in wanted:
        try:
            one()
        except LabError as error:
            say(f"scripts/lab: {error}")
            status = 1
    return status


def down(lab, options):
    start = time.monotonic()
    lab.down(keep=options.keep)
    say(f"lab down in {time.monotonic() - start:.1f} s; logs stay in {lab.state / 'log'}")


def status(lab, options):
    found = lab.status()
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"state {found['state']}, names {found['prefix']}-*")
    for name, host in found["hosts"].items():
        programs = "  ".join(f"{daemon} {pid or 'down'}" for daemon, pid in host["daemons"].items())
        print(f"{name:6} {'up' if host['up'] else 'down':5} {host['address']:14} {programs}")
    for cut in found["cuts"]:
        print(f"cut    {cut}")


def partition(lab, options):
    lab.partition(options.first, options.second, options.only)


def heal(lab, options):
    if options.first and not options.second:
        raise LabError("heal needs two hosts, or none for all cuts")
    lab.heal(options.first, options.second)


def kill(lab, options):
    lab.kill(options.host)
    say(f"{options.host} is down; `scripts/lab up` starts it again on the files it had")


def configure(lab, options):
    host = lab.host(options.host)
    values = dict(word.partition("=")[::2] for word in options.words)
    host.write_config(lab.ca_file, **{key: value or None for key, value in values.items()})
    host.appliance.stop()
    host.appliance.start()
    say(
        f"{options.host}: nuage-libnetwork was started anew with {' '.join(options.words) or 'the usual configuration'}"
    )


def execute(lab, options):
    host = lab.infra if options.host == "infra" else lab.host(options.host)
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        raise LabError("exec needs a command: scripts/lab exec h1 -- docker ps")
    argv = host.command(words)
    environment = {**host.environment(), "TERM": os.environ.get("TERM", "dumb")}
    os.execvpe(argv[0], argv, environment)


def logs(lab, options):
    directory = lab.state / "log" / options.host
    for path in sorted(
        path for path in directory.rglob("*") if path.is_file() and options.name in path.name
    ):
        lines = path.read_text(errors="replace").splitlines()
        print(f"==> {path} <==", *lines[-options.lines :], "", sep="\n")


def vsd(lab, options):
    if options.verb == "tree":
        tree = lab.admin("GET", "/tree")
        if options.path:
            tree = {
                "enterprises": [one for one in tree["enterprises"] if one["name"] == options.path]
            }
        print("\n".join(lines_of(tree)))
        return
    if options.verb == "export":
        print(lab.admin("GET", "/export", timeout=60.0), end="")
        return
    if options.path is None:
        raise LabError(f"vsd {options.verb} needs a path, as /vsc/networks")
    body = json.loads(options.body) if options.body else None
    print(json.dumps(lab.admin(options.verb.upper(), options.path, body), indent=1))


def page(lab, options):
    listener = forward.listen(options.port)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
    say(
        f"{url} is the page of the lab's VSD (csproot, csproot, csp); its CA is {lab.ca_file}; Ctrl-C ends this"
    )
    with contextlib.suppress(KeyboardInterrupt):
        forward.lend(listener, lab.infra.full_name, (underlay.INFRA_ADDRESS, SERVICES["vsd"]))


def faults(lab, options):
    words = {
        "delay_s": options.delay,
        "never": options.never,
        "wrong_address": options.wrong_address,
    }
    print(json.dumps(lab.host(options.host).ask_controller({"faults": words})))


def lines_of(node, depth=0):
    """Return the lines of the simulator's tree: one object a line, its kind and name first, what it contains below."""
    lines = []
    for kind, children in node.items():
        children = [children] if isinstance(children, dict) else children
        if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
            continue
        for child in children:
            facts = {
                key: ",".join(value) if isinstance(value, list) else value
                for key, value in child.items()
                if key not in ("id", "name")
                and not _is_branch(value)
                and value not in (None, "", [])
            }
            words = [
                kind.removesuffix("s"),
                f"'{child.get('name')}'",
                *(f"{key}={value}" for key, value in facts.items()),
            ]
            lines += [f"{'  ' * depth}{' '.join(words)}", *lines_of(child, depth + 1)]
    return lines


def _is_branch(value):
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(child, dict) for child in value)
    )


def say(text):
    print(text, file=sys.stderr, flush=True)


def parser():
    top = argparse.ArgumentParser(
        prog="scripts/lab",
        description="Nuage in a box: hosts with Docker and Open vSwitch, and a VSD",
    )
    top.add_argument(
        "--state", help="state directory (default: $NUAGE_LAB_STATE or /var/lib/nuage-lab)"
    )
    top.add_argument(
        "--prefix", help="first part of the names of namespaces and cgroups (default: nuage-lab)"
    )
    top.add_argument(
        "--cgroup", choices=("auto", "v2"), help="v2: show hosts the version 2 hierarchy alone"
    )
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(name, function, text):
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        return added

    one = verb("up", up, "bring the lab up, or what of it is not up")
    one.add_argument("--hosts", type=int, default=1, metavar="N")
    one.add_argument("--no-appliance", action="store_true", help="do not start nuage-libnetwork")
    one.add_argument(
        "--consul", action="store_true", help="with a Consul on the infra host, port 8500"
    )
    one.add_argument(
        "--engine",
        choices=tuple(engines.SUITES),
        help="the hosts' Docker engine (default: the packaged one)",
    )
    one.add_argument(
        "--store",
        choices=tuple(engines.STORES),
        help="make the engines, 20.10, a cluster with this store",
    )
    one = verb(
        "fetch", fetch, "fetch or build now what up would at the first time: stores, and engines"
    )
    one.add_argument(
        "engines", nargs="*", metavar="ENGINE", help=f"{', '.join(engines.SUITES)}, or all"
    )
    one = verb("down", down, "take the lab down and delete its files, except the logs")
    one.add_argument(
        "--keep", action="store_true", help="leave the hosts' files, as after a power cut"
    )
    one = verb("status", status, "show what runs")
    one.add_argument("--json", action="store_true")
    one = verb(
        "partition", partition, "cut two hosts apart, or one from infra, where VSD and Consul are"
    )
    one.add_argument("first", metavar="HOST")
    one.add_argument("second", metavar="HOST")
    one.add_argument(
        "--only",
        choices=(*WIRES, *SERVICES),
        help="one network between hosts, or one service of infra",
    )
    one = verb("heal", heal, "undo the cuts between two hosts, or all")
    one.add_argument("first", nargs="?", metavar="HOST")
    one.add_argument("second", nargs="?", metavar="HOST")
    one = verb(
        "kill", kill, "kill a host with everything in it, as a power cut does; up brings it back"
    )
    one.add_argument("host")
    one = verb(
        "configure",
        configure,
        "start a host's appliance with another configuration: configure h1 scope=global consul=http://198.18.0.1:8500",
    )
    one.add_argument("host")
    one.add_argument(
        "words",
        nargs="*",
        metavar="KEY=VALUE",
        help="instead of the lab's own values; without a value the key is left out",
    )
    one = verb("exec", execute, "run a command in a host: exec h1 -- docker ps")
    one.add_argument("host")
    one.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    one = verb("logs", logs, "show the ends of a host's logs")
    one.add_argument("host")
    one.add_argument("name", nargs="?", default="", help="only logs with this in their name")
    one.add_argument("--lines", type=int, default=30)
    one = verb(
        "vsd",
        vsd,
        "show the simulator's tree, print it as a seed file, or call its admin interface",
    )
    one.add_argument(
        "verb", nargs="?", choices=("tree", "export", "get", "post", "delete"), default="tree"
    )
    one.add_argument("path", nargs="?", help="the enterprise to show, or the path to call")
    one.add_argument("body", nargs="?", help="JSON")
    one = verb(
        "page", page, "lend the page of the lab's VSD to this machine's loopback, until Ctrl-C"
    )
    one.add_argument("--port", type=int, default=8443, help="0 lets the system choose")
    one = verb("faults", faults, "make a host's controller misbehave; without options: behave")
    one.add_argument("host")
    one.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    one.add_argument("--never", action="append", default=[], metavar="UUID", help="or all")
    one.add_argument("--wrong-address", action="store_true")
    return top


def main():
    options = parser().parse_args()
    if os.geteuid():
        say("the lab needs root: it makes namespaces, cgroups and mounts")
        return 1
    try:
        return options.function(Lab(options.state, options.prefix, options.cgroup), options) or 0
    except LabError as error:
        say(f"scripts/lab: {error}")
    except OSError as error:
        say(f"scripts/lab: {error} (is the lab up? scripts/lab status)")
    except KeyboardInterrupt:
        say("interrupted; `scripts/lab down`, or the next `up`, cleans up")
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
