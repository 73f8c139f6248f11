"""The command line: `-config FILE`, `-version`; one dash or two, `=` or a blank."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from nuage_appliance import __version__
from nuage_appliance.base import log

_USAGE = """usage: nuage-libnetwork -config FILE [-check]
       nuage-libnetwork -version

  -config FILE   the YAML configuration file, such as /etc/default/nuage-libnetwork.yaml
  -check         read the configuration, say what is wrong with it, and end
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
        if name in ("version", "check", "help", "h") and not separator:
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
    return _serve(os.path.abspath(str(options["config"])), bool(options.get("check")))


def _serve(path: str, only_check: bool) -> int:
    from nuage_appliance.base.faults import Fault
    from nuage_appliance.config import ConfigError, load
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
