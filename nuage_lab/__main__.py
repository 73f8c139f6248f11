"""The lab's command line, which scripts/lab starts."""

import argparse
import contextlib
import errno
import json
import os
import sys
import time

from nuage_lab import engines, packages, registry, stores
from nuage_lab.hosts import forward, systemd_root, underlay
from nuage_lab.hosts.cuts import WIRES
from nuage_lab.hosts.progress import Ticker, announce
from nuage_lab.hosts.run import LabError
from nuage_lab.lab import SERVICES, Lab


def up(lab, options):
    """Bring the lab up, and say how long it took."""
    start = time.monotonic()
    lab.up(
        options.hosts,
        appliance=not options.no_appliance,
        say=announce,
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
    """Take the lab down, and say where its logs are."""
    start = time.monotonic()
    lab.down(keep=options.keep)
    say(f"lab down in {time.monotonic() - start:.1f} s; logs stay in {lab.state / 'log'}")


def status(lab, options):
    """Print what runs, as lines or as JSON."""
    found = lab.status()
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"state {found['state']}, names {found['prefix']}-*")
    if not lab.is_up():
        print("the lab is down; `scripts/lab up` starts it")
        return
    for name, host in found["hosts"].items():
        programs = "  ".join(f"{daemon} {pid or 'down'}" for daemon, pid in host["daemons"].items())
        print(f"{name:6} {'up' if host['up'] else 'down':5} {host['address']:14} {programs}")
    for cut in found["cuts"]:
        print(f"cut    {cut}")


def partition(lab, options):
    """Cut two hosts apart."""
    lab.partition(options.first, options.second, options.only)


def heal(lab, options):
    """Undo the cuts between two hosts, or all."""
    if options.first and not options.second:
        raise LabError("heal needs two hosts, or none for all cuts")
    lab.heal(options.first, options.second)


def kill(lab, options):
    """Kill a host as a power cut does."""
    lab.kill(options.host)
    say(f"{options.host} is down; `scripts/lab up` starts it again on the files it had")


def configure(lab, options):
    """Restart a host's appliance with other keys, if its own -check accepts them."""
    host = lab.known_host(options.host)
    if host is lab.infra:
        raise LabError("infra has no appliance; name a host, as h1")
    wrong = [word for word in options.words if "=" not in word]
    if wrong:
        raise LabError(f"'{wrong[0]}' is not KEY=VALUE, such as scope=global")
    values = dict(word.partition("=")[::2] for word in options.words)
    changes = {key: yaml_value(value) for key, value in values.items()}
    for line in host.reconfigure(lab.ca_file, changes):
        say(line)
    what = " ".join(options.words) or "the usual configuration"
    say(f"{options.host}: the appliance was restarted with {what}")


def yaml_value(word):
    """Return what the value of KEY=VALUE means: a number, true or false, a text; None if empty."""
    if word.isdecimal():
        return int(word)
    return {"": None, "true": True, "false": False}.get(word, word)


def execute(lab, options):
    """Become a command inside a host; does not return."""
    host = lab.known_host(options.host)
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        raise LabError("exec needs a command: scripts/lab exec h1 -- docker ps")
    argv = host.command(words)
    environment = {**host.environment(), "TERM": os.environ.get("TERM", "dumb")}
    os.execvpe(argv[0], argv, environment)


def logs(lab, options):
    """Logs outlive the lab, so they are shown of every host that has some."""
    top = lab.state / "log"
    directory = top / options.host
    if not directory.is_dir() or directory.parent != top:
        hosts = sorted(path.name for path in top.iterdir()) if top.is_dir() else []
        raise LabError(
            f"there are no logs of {options.host}; "
            + (f"there are logs of {', '.join(hosts)}" if hosts else f"none are in {top}")
        )
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    chosen = [path for path in files if options.name in path.name]
    if not chosen:
        names = ", ".join(path.stem for path in files)
        raise LabError(f"{options.host} has no log named {options.name}; it has {names}")
    for path in chosen:
        lines = path.read_text(errors="replace").splitlines()
        print(f"==> {path} <==", *lines[-options.lines :], "", sep="\n")


def vsd(lab, options):
    """Print the simulator's tree or its seed file, or call its admin interface."""
    lab.need_up()
    if options.verb == "tree":
        tree = lab.admin("GET", "/tree")
        print("\n".join(lines_of(branch(tree, options.path) if options.path else tree)))
        return
    if options.verb == "export":
        print(lab.admin("GET", "/export", timeout=60.0), end="")
        return
    if options.path is None:
        raise LabError(f"vsd {options.verb} needs a path, as /vsc/networks")
    try:
        body = json.loads(options.body) if options.body else None
    except ValueError as error:
        raise LabError(f"the body is not JSON ({error}): {options.body}") from error
    print(json.dumps(lab.admin(options.verb.upper(), options.path, body), indent=1))


def page(lab, options):
    """Lend the page of the lab's VSD to this machine's loopback, until Ctrl-C."""
    lab.need_up()
    listener = forward.listen(options.port)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
    say(
        f"{url} is the page of the lab's VSD (csproot, csproot, csp); "
        f"its CA is {lab.ca_file}; Ctrl-C ends this"
    )
    with contextlib.suppress(KeyboardInterrupt):
        forward.lend(listener, lab.infra.full_name, (underlay.INFRA_ADDRESS, SERVICES["vsd"]))


def faults(lab, options):
    """Order a host's controller to misbehave, or to behave again."""
    words = {
        "delay_s": options.delay,
        "never": options.never,
        "wrong_address": options.wrong_address,
    }
    host = lab.known_host(options.host)
    if host is lab.infra:
        raise LabError("infra has no controller; name a host, as h1")
    print(json.dumps(host.ask_controller({"faults": words})))


def branch(tree, path):
    """Return the part of the simulator's tree on a path of names, as "Enterprise/Domain".

    That is the objects that lead there, and what the last one contains.

    A name may be that of objects of several kinds; then all of them are shown. LabError when a part
    of the path is not there.
    """
    name, _, rest = path.strip("/").partition("/")
    found, names = {}, []
    for kind, children in tree.items():
        if not _is_branch(children):
            continue
        children = [children] if isinstance(children, dict) else children
        names += [str(child.get("name")) for child in children]
        for child in children:
            if child.get("name") == name:
                found.setdefault(kind, []).append(child)
    if not found:
        raise LabError(f"the VSD has no '{name}' there; it has {', '.join(names) or 'nothing'}")
    if not rest:
        return found
    narrowed, problem = {}, None
    for kind, children in found.items():
        for child in children:
            try:
                below = branch(child, rest)
            except LabError as error:
                problem = error
                continue
            facts = {key: value for key, value in child.items() if not _is_branch(value)}
            narrowed.setdefault(kind, []).append(facts | below)
    if not narrowed:
        raise problem
    return narrowed


def lines_of(node, depth=0):
    """Return the lines of the simulator's tree: one object a line, its kind and name first, what it
    contains below.
    """
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
    """Write a line for the one who waits; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def parser():
    """Return the parser of the command line; each verb sets `function`."""
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
    one.add_argument("--no-appliance", action="store_true", help="do not start the appliances")
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
    one.add_argument(
        "path",
        nargs="?",
        help="what to show, as 'Enterprise/Domain/Zone/Subnet 2'; or the path to call",
    )
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


def explained(error, lab):
    """Return the sentence for an OSError that no part of the lab turned into one of its own."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename or lab.state
        return f"{place}: {error.strerror}; make room there, or keep the lab elsewhere with --state"
    hint = "" if lab.is_up() else " (the lab is down; `scripts/lab up` starts it)"
    return f"{error}{hint}"


def main():
    """Run one verb and return the exit status: 0, 1 for an error, 130 when interrupted."""
    options = parser().parse_args()
    if os.geteuid():
        say("scripts/lab needs root: the lab makes namespaces, cgroups and mounts")
        return 1
    lab = None
    try:
        lab = Lab(options.state, options.prefix, options.cgroup)
        if options.function is execute:  # becomes the command; no thread must be there
            return execute(lab, options)
        with Ticker(say):
            return options.function(lab, options) or 0
    except LabError as error:
        say(f"scripts/lab: {error}")
    except OSError as error:
        say(f"scripts/lab: {explained(error, lab) if lab else error}")
    except KeyboardInterrupt:
        say("interrupted; `scripts/lab down`, or the next `up`, cleans up")
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
