"""The command line: `-config FILE`, `-check`, `-audit`, `-health`, `-version`; one dash or two, `=` or a blank."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

from nuage_appliance import LATER_SIGNALS, __version__
from nuage_appliance.base import log
from nuage_appliance.base.faults import Fault, Refused, Unavailable
from nuage_appliance.config import Config, ConfigError, load, managed_settings

_USAGE = """usage: nuage-libnetwork -config FILE [-check | -audit | -health]
       nuage-libnetwork -version

  -config FILE   the YAML configuration file, such as /etc/default/nuage-libnetwork.yaml
  -check         read the configuration, say what is wrong with it, and end
  -audit         compare the VSD, the VRS, the engine and the host's links, repair what is wrong, and end: with status 0 when
                 all agrees, 1 when something is left or could not be read. Asks the running appliance, if there is one. What is
                 taken away is looked at for a minute first.
  -health        say whether the appliance that runs with this configuration serves, and end: with status 0 when it does, also while
                 the VSD or another neighbour is away, else with 1
  -version       print the version and end
  -help          print this and end
"""
_BAD_USE = 2
_VERBS = ("check", "audit", "health")
_HEALTH_S = 3.0
_ENABLE_S = 20.0


class _UsageError(Exception):
    pass


def _parse(arguments: Sequence[str]) -> dict[str, str | bool]:
    options: dict[str, str | bool] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, separator, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or word.startswith("---"):
            raise _UsageError(f"{word!r} is not an option; nuage-libnetwork takes -config FILE")
        if name in (*_VERBS, "version", "help", "h") and not separator:
            options["help" if name == "h" else name] = True
        elif name == "config":
            if not separator:
                if not rest:
                    raise _UsageError("-config needs the path of the configuration file")
                value = rest.pop(0)
            if not value:
                raise _UsageError("-config needs the path of the configuration file")
            options["config"] = value
        else:
            raise _UsageError(f"the option {word!r} is not known; see -help")
    return options


def run(arguments: Sequence[str]) -> int:
    """Run the program; returns its exit status: 0 after an orderly stop, 1 after a failure, 2 for a wrong use."""
    try:
        options = _parse(arguments)
    except _UsageError as error:
        print(f"nuage-libnetwork: {error}", file=sys.stderr)
        return _BAD_USE
    if options.get("help"):
        print(_USAGE, end="")
        return 0
    if options.get("version"):
        print(f"nuage-libnetwork {__version__}")
        return 0
    managed = managed_settings(os.environ)
    path = options.get("config") or (managed or {}).get("CONFIG")
    if not path:
        print("nuage-libnetwork: -config FILE is missing; see -help", file=sys.stderr)
        return _BAD_USE
    verbs = [verb for verb in _VERBS if options.get(verb)]
    if len(verbs) > 1:
        print(
            f"nuage-libnetwork: {' and '.join(f'-{verb}' for verb in verbs)} exclude each other; give one of them",
            file=sys.stderr,
        )
        return _BAD_USE
    try:
        path = os.path.abspath(str(path))
    except OSError as error:
        print(
            f"nuage-libnetwork: the current directory cannot be told: {error.strerror}; give -config an absolute path",
            file=sys.stderr,
        )
        return _BAD_USE
    if verbs:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LATER_SIGNALS)
    if verbs == ["health"]:
        return _health(path)
    status = _serve(path, verbs == ["check"], verbs == ["audit"])
    if status == _BAD_USE and managed is not None and not verbs:
        # Its engine waits 12 s for the socket and restarts what ends before that, also when it has given up; then it knows no more what runs.
        time.sleep(_ENABLE_S)
    return status


def _serve(path: str, only_check: bool, only_audit: bool) -> int:
    try:
        config = load(path)
    except ConfigError as error:
        print(f"nuage-libnetwork: {error}", file=sys.stderr)
        return _BAD_USE
    if only_check:
        for warning in config.warnings:
            print(f"nuage-libnetwork: warning: {warning}", file=sys.stderr)
        print(f"nuage-libnetwork: {path} can be used")
        return 0
    if only_audit:
        return _audit(config, path)
    problem = log.start(config.logfile, config.loglevel, config.logfilesize)
    logger = logging.getLogger(__name__)
    if problem:
        logger.warning("%s", problem)
    from nuage_appliance.app import App

    try:
        return App(config, path).run()
    except Fault as fault:
        print(f"nuage-libnetwork: {fault.message}", file=sys.stderr)
        logger.error("%s", fault.message)
        return 1


def _audit(config: Config, path: str) -> int:
    """Have the running appliance audit, or do it here when none is running."""
    from nuage_appliance.api import status
    from nuage_appliance.app import App, audit_rounds

    try:
        if status.is_served(config.statussocket):
            return audit_rounds(
                lambda: status.ask(config.statussocket, "POST", "/audit", "sentence")
            )
        for name in ("nuage", "nuage-ipam"):
            if status.is_served(os.path.join(config.plugindir, f"{name}.sock")):
                raise Refused(
                    f"an appliance serves {config.plugindir}/{name}.sock, but not {config.statussocket}; give its configuration file"
                )
        log.start(None, config.loglevel, config.logfilesize)
        return App(config, path).audit_alone()
    except Fault as fault:
        print(f"nuage-libnetwork: {fault.message}", file=sys.stderr)
        return 1


def _health(path: str) -> int:
    """Ask the running appliance for its state, whatever that is: that it answers is health. Its plugin sockets must be reached, too."""
    from nuage_appliance.api import status

    config: Config | type[Config] = Config
    with contextlib.suppress(ConfigError):  # the appliance runs on with what it read before
        config = load(path)
    sockets = [
        os.path.join(config.plugindir, f"{name}.sock")
        for name in (("nuage", "nuage-ipam") if config.pluginversion == "v1" else ("nuage",))
    ]
    try:
        components = status.ask(config.statussocket, "GET", "/", "components", _HEALTH_S)[
            "components"
        ]
        for name in sockets:
            if not status.is_served(name):
                raise Unavailable(f"the engine cannot reach {name}")
    except Fault as fault:
        print(f"nuage-libnetwork: not healthy: {fault.message}", file=sys.stderr)
        return 1
    problems = [
        f"{name}: {component['problem']}"
        for name, component in components.items()
        if component.get("problem")
    ]
    print(
        f"nuage-libnetwork {__version__} serves {' and '.join(sockets)}"
        + (f"; it has problems: {'; '.join(problems)}" if problems else "")
    )
    return 0
