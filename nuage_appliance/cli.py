"""The command line: `-config FILE`, `-check`, `-audit`, `-health`, `-version`; one dash or two.

Owns the exit statuses: 0 after an orderly end, 1 after a failure, 2 for a wrong use.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from nuage_appliance import LATER_SIGNALS, __version__
from nuage_appliance.base import log, unix_socket
from nuage_appliance.base.faults import Fault, Refused, Unavailable
from nuage_appliance.config import Config, ConfigError, load, managed_settings

_WELL = 0
_FAILED = 1
_BAD_USE = 2
_HEALTH_S = 3.0
_ENABLE_S = 20.0
# What is to be taken away needs three sightings within a minute of the audit's grace.
_MOST_ROUNDS = 8
_GRACE_ROUND_S = 20.5
_REPAIR_ROUND_S = 1.0
_USAGE = """nuage-libnetwork -config FILE [-check | -audit | -health]
       nuage-libnetwork -version"""
_NO_PATH = "-config needs the path of the configuration file"


class _UsageError(Exception):
    """What is wrong with the command line, in one sentence."""


class _Parser(argparse.ArgumentParser):
    """Raises _UsageError where argparse would print its usage and end the process."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse for what it cannot take."""
        if message.endswith("expected one argument"):  # only -config takes one
            raise _UsageError(_NO_PATH)
        raise _UsageError(f"{message}; see -help")


class _Once(argparse.Action):
    """A value that may be given once, or again with the same value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Called by argparse for each use of the option."""
        if not values:
            raise _UsageError(_NO_PATH)
        before = getattr(namespace, self.dest)
        if before is not None and before != values:
            raise _UsageError(f"-config is given twice, as {before} and as {values}; give it once")
        setattr(namespace, self.dest, values)


def _parser() -> _Parser:
    parser = _Parser(prog="nuage-libnetwork", usage=_USAGE, add_help=False, allow_abbrev=False)
    options = parser.add_argument_group("options")
    options.add_argument(
        "-config",
        "--config",
        metavar="FILE",
        action=_Once,
        help="the YAML configuration file, such as /etc/default/nuage-libnetwork.yaml",
    )
    options.add_argument(
        "-check",
        "--check",
        action="store_true",
        help="read the configuration and print what is wrong with it",
    )
    options.add_argument(
        "-audit",
        "--audit",
        action="store_true",
        help="compare the VSD, the VRS, the engine and the host's links, and repair what is wrong;"
        " status 0 when all agrees, 1 when something is left or could not be read. The running"
        " appliance does it, if there is one. What is to be taken away is observed for a minute"
        " first",
    )
    options.add_argument(
        "-health",
        "--health",
        action="store_true",
        help="print whether the appliance that runs with this configuration serves the engine;"
        " status 0 when it does, also while the VSD or another backend is away, else 1",
    )
    options.add_argument("-version", "--version", action="store_true", help="print the version")
    options.add_argument("-help", "--help", "-h", action="store_true", help="print this")
    return parser


def _parse(parser: _Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """The options. Raises _UsageError."""
    # argparse takes abbreviations of options with one dash, whatever allow_abbrev says.
    words = [
        f"-{word}" if word.startswith("-") and word[1:2] not in ("-", "") and word != "-h" else word
        for word in arguments
    ]
    options, unknown = parser.parse_known_args(words)
    if unknown:
        written = arguments[words.index(unknown[0])]
        if written.startswith("-"):
            raise _UsageError(f"the option {written!r} is not known; see -help")
        raise _UsageError(f"{written!r} is not an option; nuage-libnetwork takes -config FILE")
    given = [verb for verb in ("check", "audit", "health") if getattr(options, verb)]
    if len(given) > 1:
        names = " and ".join(f"-{verb}" for verb in given)
        raise _UsageError(f"{names} exclude each other; give one of them")
    options.verb = given[0] if given else "serve"
    return options


def _complain(sentence: str) -> None:
    print(f"nuage-libnetwork: {sentence}", file=sys.stderr)


def run(arguments: Sequence[str]) -> int:
    """Run the program; returns its exit status (see above). Switches greenlets."""
    parser = _parser()
    managed = managed_settings(os.environ)
    try:
        options = _parse(parser, arguments)
        if options.help:
            parser.print_help()
            return _WELL
        if options.version:
            print(f"nuage-libnetwork {__version__}")
            return _WELL
        path = _configuration_path(options.config or (managed or {}).get("CONFIG"))
    except _UsageError as error:
        _complain(str(error))
        return _BAD_USE
    if options.verb != "serve":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LATER_SIGNALS)
    verbs = {"serve": _serve, "check": _check, "audit": _audit, "health": _health}
    status = verbs[options.verb](path)
    if status == _BAD_USE and managed is not None and options.verb == "serve":
        # The engine waits 12 s for a managed plugin's socket. It restarts a plugin that ends before
        # that, again and again, also after it gave the plugin up; then it loses track of it.
        time.sleep(_ENABLE_S)
    return status


def _configuration_path(given: str | None) -> str:
    """The absolute path of the configuration file. Raises _UsageError."""
    if not given:
        raise _UsageError("-config FILE is missing; see -help")
    try:
        return os.path.abspath(given)
    except OSError as error:
        raise _UsageError(
            f"the current directory is unknown: {error.strerror}; give -config an absolute path"
        ) from None


def _read(path: str) -> Config | None:
    """The configuration, or None after its problem was printed."""
    try:
        return load(path)
    except ConfigError as error:
        _complain(str(error))
        return None


def _check(path: str) -> int:
    config = _read(path)
    if config is None:
        return _BAD_USE
    for warning in config.warnings:
        _complain(f"warning: {warning}")
    print(f"nuage-libnetwork: {path} can be used")
    return _WELL


def _serve(path: str) -> int:
    config = _read(path)
    if config is None:
        return _BAD_USE
    problem = log.start(config.logfile, config.loglevel, config.logfilesize)
    logger = logging.getLogger(__name__)
    if problem:
        logger.warning("%s", problem)
    from nuage_appliance.app import App  # takes long, and the other verbs do not need it

    try:
        return App(config, path).run()
    except Fault as fault:
        _complain(fault.message)
        logger.error("%s", fault.message)
        return _FAILED


def _audit(path: str) -> int:
    """Have the running appliance audit, or do it here when none is running."""
    config = _read(path)
    if config is None:
        return _BAD_USE
    from nuage_appliance.api import status

    try:
        if unix_socket.is_served(config.statussocket):
            return _audit_rounds(
                lambda: status.ask(config.statussocket, "POST", "/audit", "sentence")
            )
        for name in ("nuage", "nuage-ipam"):
            if unix_socket.is_served(os.path.join(config.plugindir, f"{name}.sock")):
                raise Refused(
                    f"an appliance serves {config.plugindir}/{name}.sock, "
                    f"but not {config.statussocket}; give its configuration file"
                )
        log.start(None, config.loglevel, config.logfilesize)
        return _audit_alone(config, path)
    except Fault as fault:
        _complain(fault.message)
        return _FAILED


def _audit_alone(config: Config, path: str) -> int:
    """Audit in this process. Raises Fault. Switches greenlets."""
    from nuage_appliance.app import App

    app = App(config, path)
    with app.auditing() as unread:
        if unread:
            print(f"audit: nothing is taken away, because not everything could be read: {unread}")
            return _FAILED
        return _audit_rounds(app.audit_now)


def _audit_rounds(audit: Callable[[], dict[str, Any]]) -> int:
    """Run `audit` until it finds nothing, or until nothing more can be done; returns the status.

    What is to be taken away needs three sightings in a minute, so this may take 65 s. Switches
    greenlets.
    """
    for _ in range(_MOST_ROUNDS):
        outcome = audit()
        print(outcome["sentence"])
        if not outcome["is_complete"]:
            return _FAILED
        if not outcome["found"]:
            return _WELL
        if not outcome["waiting"] and not outcome["repaired"]:
            return _FAILED
        time.sleep(_GRACE_ROUND_S if outcome["waiting"] else _REPAIR_ROUND_S)
    return _FAILED


def _health(path: str) -> int:
    """Ask the running appliance for its state, whatever that is: that it answers is health.

    Its plugin sockets must be reached, too.
    """
    from nuage_appliance.api import status

    config: Config | type[Config] = Config
    # A file that cannot be used now does not end an appliance that started with an earlier one;
    # then the defaults say where its sockets are.
    with contextlib.suppress(ConfigError):
        config = load(path)
    names = ("nuage", "nuage-ipam") if config.pluginversion == "v1" else ("nuage",)
    sockets = [os.path.join(config.plugindir, f"{name}.sock") for name in names]
    try:
        answer = status.ask(config.statussocket, "GET", "/", "components", _HEALTH_S)
        for name in sockets:
            if not unix_socket.is_served(name):
                raise Unavailable(f"the engine cannot reach {name}")
    except Fault as fault:
        _complain(f"not healthy: {fault.message}")
        return _FAILED
    problems = [
        f"{name}: {component['problem']}"
        for name, component in answer["components"].items()
        if component.get("problem")
    ]
    sentence = f"nuage-libnetwork {__version__} serves {' and '.join(sockets)}"
    print(f"{sentence}; it has problems: {'; '.join(problems)}" if problems else sentence)
    return _WELL
