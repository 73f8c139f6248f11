"""Owns the command line: its options, what they accept, and one clear line for what they refuse.

Never opens a file.
"""

import argparse
import ipaddress
import os
import re
from pathlib import Path

from .http_faults import ACTIONS, FORM, HttpFaults
from .model import RELEASES

_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?\Z")


class _Parser(argparse.ArgumentParser):
    """Prints one line with what was wrong, without the usage of forty options."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def parse_arguments(argv):
    """Return the parsed command line; `faults` holds the rules of --fault.

    Adds `address` and `mtls_address` as (host, port). Ends the process with status 2 for a bad
    option.
    """
    parser = _Parser(
        prog="python -m nuage_lab.vsd",
        usage="%(prog)s [OPTION …]",
        allow_abbrev=False,
        add_help=False,
        description=(
            "A simulated VSD for tests and the lab. Without options it serves"
            " https://127.0.0.1:8443, API and page, with the packaged tree (user csproot,"
            " password csproot, organisation csp) until Ctrl-C. Its first line names the address,"
            " the CA's file and the admin socket."
        ),
        epilog="docs/LAB.md shows how to seed it, break it, keep it, and point a client at it.",
    )
    add = parser.add_argument_group("where").add_argument
    add(
        "--listen",
        default="127.0.0.1:8443",
        metavar="ADDR:PORT",
        help="default: 127.0.0.1:8443; port 0 lets the system choose",
    )
    add(
        "--mtls-listen",
        metavar="ADDR:PORT",
        help="serve here too, to clients with a certificate only",
    )
    add(
        "--admin-socket",
        type=Path,
        metavar="PATH",
        help="default: admin.sock in the state directory",
    )
    add(
        "--state-dir",
        type=Path,
        default=_home(),
        metavar="DIR",
        help="keeps CA and certificates; default: %(default)s",
    )
    add("--ready-fd", type=int, metavar="N", help="write the first line to this descriptor too")
    add = parser.add_argument_group("which certificates").add_argument
    add(
        "--san",
        action="append",
        default=[],
        metavar="NAME",
        help="further name or address of the server in its certificate",
    )
    add(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="use this certificate (PEM) instead of an own one",
    )
    add("--key", type=Path, metavar="FILE", help="the key of --certificate")
    add(
        "--client-certificate",
        action="append",
        default=[],
        metavar="USER",
        help="make USER.pem and USER.key, for --mtls-listen",
    )
    add = parser.add_argument_group("what it holds").add_argument
    add(
        "--seed",
        type=Path,
        metavar="FILE.yaml",
        help="the tree to start with; nuage_lab/vsd/example.yaml is an example",
    )
    add(
        "--state",
        type=Path,
        metavar="FILE",
        help="keep all objects in this file; it wins over the seed as soon as it is there",
    )
    add(
        "--keep-objects",
        action="store_true",
        help="the same as --state objects.jsonl in the state directory",
    )
    add(
        "--state-sync",
        action="store_true",
        help="wait for the disk at each change: a power cut, too, loses nothing that was answered",
    )
    add(
        "--export",
        action="store_true",
        help="print the tree of the simulator that runs with this admin socket as a seed file,"
        " and end",
    )
    add = parser.add_argument_group("how it behaves").add_argument
    add(
        "--release",
        choices=RELEASES[3:],
        default=RELEASES[-1],
        help="what the API root v6 speaks; default: %(default)s",
    )
    add(
        "--fault",
        action="append",
        default=[],
        metavar="RULE",
        help=f"disturb requests: '{FORM}', as 'POST ^/containers 503 count=2'; "
        f"actions are {', '.join(ACTIONS)}; count=0 is for ever",
    )
    add("--latency-ms", type=_not_negative, default=0, metavar="MS", help="delay every reply")
    add(
        "--allocation",
        choices=("lowest", "random"),
        default="lowest",
        help="choice of free addresses; default: %(default)s",
    )
    add(
        "--key-validity",
        type=_not_negative,
        default=86400,
        metavar="SECONDS",
        help="life time of an API key; default: a day",
    )
    add(
        "--key-renewal",
        type=_not_negative,
        default=300,
        metavar="SECONDS",
        help="renewal window before its end; default: %(default)s",
    )
    add(
        "--purge",
        type=_not_negative,
        default=0,
        metavar="SECONDS",
        help="VMPurgeTime; default 0: never",
    )
    add(
        "--unreachable",
        type=_not_negative,
        default=3600,
        metavar="SECONDS",
        help="VMUnreachableTime; 0 loses no VRS; default: %(default)s",
    )
    add(
        "--request-log",
        type=Path,
        metavar="FILE",
        help="append one JSON line a request, without credentials",
    )
    add("-h", "--help", action="help", help="show this and end")
    arguments = parser.parse_args(argv)
    if (arguments.certificate is None) != (arguments.key is None):
        parser.error("--certificate and --key go together")
    if arguments.certificate is not None and (
        arguments.mtls_listen or arguments.client_certificate
    ):
        parser.error(
            "--mtls-listen and --client-certificate need the own CA: leave --certificate out"
        )
    for name in arguments.san:
        if not _NAME.match(name) and not _is_address(name):
            parser.error(
                f"--san {name!r}: neither a name nor an address, as vsd.example or 192.0.2.1"
            )
    if arguments.keep_objects and arguments.state is not None:
        path = arguments.state_dir / "objects.jsonl"
        parser.error(f"--keep-objects is --state {path}: leave one of them out")
    if arguments.keep_objects:
        arguments.state = arguments.state_dir / "objects.jsonl"
    if arguments.state_sync and arguments.state is None:
        parser.error("--state-sync sets how --state FILE is written: name the file")
    arguments.address = _address(parser, "--listen", arguments.listen)
    arguments.mtls_address = (
        _address(parser, "--mtls-listen", arguments.mtls_listen) if arguments.mtls_listen else None
    )
    arguments.admin_socket = arguments.admin_socket or arguments.state_dir / "admin.sock"
    arguments.faults = HttpFaults()
    for rule in arguments.fault:
        try:
            arguments.faults.add({"rule": rule})
        except ValueError as problem:
            parser.error(f"--fault {rule!r}: {problem}")
    return arguments


def _home():
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "nuage-vsd"


def _is_address(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _not_negative(text):
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number that is not negative, not {text!r}")
    return number


def _address(parser, option, text):
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isdigit() and int(port) < 65536):
        parser.error(f"{option} {text}: must be ADDR:PORT, as 127.0.0.1:8443")
    return host.strip("[]") or "0.0.0.0", int(port)
