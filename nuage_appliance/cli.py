"""The command line: `-config FILE`, `-audit`, `-version`; one dash or two, `=` or a blank."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from nuage_appliance import __version__
from nuage_appliance.base import log
from nuage_appliance.base.faults import Fault, Refused
from nuage_appliance.config import Config, ConfigError, load

_USAGE = """usage: nuage-libnetwork -config FILE [-check | -audit]
       nuage-libnetwork -version

  -config FILE   the YAML configuration file, such as /etc/default/nuage-libnetwork.yaml
  -check         read the configuration, say what is wrong with it, and end
  -audit         compare the VSD, the VRS, the engine and the host's links, repair what is wrong, and end: with status 0 when
                 all agrees, 1 when something is left or could not be read. Asks the running appliance, if there is one. What is
                 taken away is looked at for a minute first.
  -version       print the version and end
  -help          print this and end
"""
_BAD_USE = 2


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
        if name in ("version", "check", "audit", "help", "h") and not separator:
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
    if "config" not in options:
        print("nuage-libnetwork: -config FILE is missing; see -help", file=sys.stderr)
        return _BAD_USE
    if options.get("check") and options.get("audit"):
        print("nuage-libnetwork: -check and -audit exclude each other; give one of them", file=sys.stderr)
        return _BAD_USE
    return _serve(os.path.abspath(str(options["config"])), bool(options.get("check")), bool(options.get("audit")))


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
    from nuage_appliance.app import App, audit_rounds
    from nuage_appliance.doors import status
    try:
        if status.is_served(config.statussocket):
            return audit_rounds(lambda: status.ask(config.statussocket, "POST", "/audit", "sentence"))
        for name in ("nuage", "nuage-ipam"):
            if status.is_served(os.path.join(config.plugindir, f"{name}.sock")):
                raise Refused(f"an appliance serves {config.plugindir}/{name}.sock, but not {config.statussocket}; give its configuration file")
        log.start(None, config.loglevel, config.logfilesize)
        return App(config, path).audit_alone()
    except Fault as fault:
        print(f"nuage-libnetwork: {fault.message}", file=sys.stderr)
        return 1
