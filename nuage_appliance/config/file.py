"""Reads the configuration file into one frozen Config.

Owns the order of the checks. Must never show the value of a credential.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import errno
import os
import ssl
import stat
import urllib.parse
from collections.abc import Mapping
from typing import Any

import yaml

from nuage_appliance.config.keys import ALIASES, KEYS, Config
from nuage_appliance.config.rules import ConfigError, shown

_MOST_CHARACTERS = 1 << 20
_UNUSED_KEYS = ("port",)  # the predecessor's; it had no effect there either
# Only a managed plugin's config.json sets this variable. So CONFIG and LOGLEVEL in the environment
# of any other program mean nothing here.
_MANAGED_MARK = "NUAGE_MANAGED_PLUGIN"


def parse(text: str) -> Config:
    """Turn the text of a configuration file into a Config, or raise ConfigError."""
    document, warnings = _read_document(text)
    written, unknown = _known_keys(document)
    for key in KEYS.values():
        if key.is_required and written.get(key.name, ("", None))[1] in (None, ""):
            hint = "write https://HOST:8443" if key.name == "url" else "write its base64 form"
            raise ConfigError(f"{key.name}: the key is missing or empty; {hint}")
    values = {
        name: KEYS[name].rule(spelling, value)
        for name, (spelling, value) in written.items()
        if value is not None and value != ""
    }
    warnings += unknown
    warnings += _doubts(values)
    return Config(**values, warnings=tuple(warnings))


def _read_document(text: str) -> tuple[dict[Any, Any], list[str]]:
    """The mapping that the YAML text holds, and a warning for each key that is written twice."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(
            f"the file is not valid YAML{where}: {problem}; each line must be KEY: VALUE"
        ) from None
    except (RecursionError, ValueError, LookupError, AttributeError):
        # All but the first come from a tag on a value that does not fit it, such as !!bool maybe.
        raise ConfigError("the file is not valid YAML; each line must be KEY: VALUE") from None
    if not isinstance(document, dict):
        raise ConfigError(f"the file holds {type(document).__name__} instead of lines KEY: VALUE")
    tree = yaml.compose(text)
    assert isinstance(tree, yaml.MappingNode), "a text that loads as a mapping is one"
    counts = collections.Counter(
        node.value for node, _ in tree.value if isinstance(node.value, str)
    )
    warnings = [
        f"the configuration key {shown(key)} is written {count} times; the last one counts"
        for key, count in counts.items()
        if count > 1
    ]
    return document, warnings


def _known_keys(document: Mapping[Any, Any]) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """For each key of ours its spelling and its value; and a warning for each other key."""
    found: dict[str, tuple[str, Any]] = {}
    warnings = []
    for written, value in document.items():
        name = ALIASES.get(written, written) if isinstance(written, str) else written
        if name in _UNUSED_KEYS:
            continue
        if name not in KEYS:
            is_text = isinstance(written, str)
            near = difflib.get_close_matches(written, [*KEYS, *ALIASES], n=1) if is_text else []
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(
                f"the configuration key {shown(written)} is not known and is ignored{hint}"
            )
            continue
        if name in found and found[name][1] != value:
            spelling, before = found[name]
            raise ConfigError(
                f"{written}: {shown(value)} contradicts {spelling}: {shown(before)}; "
                "they are one setting, write it once"
            )
        found[name] = (written, value)
    return found, warnings


def _doubts(values: Mapping[str, Any]) -> list[str]:
    """A warning for each value that can be used and is probably not what the operator wants."""
    warnings = []
    host = urllib.parse.urlsplit(values["url"]).hostname or ""
    if not all(c.isalnum() or c in ".-:_" for c in host):
        warnings.append(
            f"url: {host!r} does not look like a host name; write the address of your VSD"
        )
    if values.get("tlsverify") is False:
        warnings.append(
            "tlsverify is false: the VSD's certificate is not checked "
            "and anybody on the path can read the credentials"
        )
    warnings += [
        f"{key.name} has no effect without {key.needs}"
        for key in KEYS.values()
        if key.needs and values.get(key.name) and not values.get(key.needs)
    ]
    if values.get("consultoken") and values.get("consul", "").startswith("http:"):
        warnings.append("consul is an http address: the token crosses the network in clear text")
    return warnings


def managed_settings(environment: Mapping[str, str]) -> dict[str, str] | None:
    """CONFIG and LOGLEVEL as `docker plugin set` gave them, without the empty ones.

    None outside of a managed plugin.
    """
    if not environment.get(_MANAGED_MARK):
        return None
    return {name: environment[name] for name in ("CONFIG", "LOGLEVEL") if environment.get(name)}


def load(path: str, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the file `path`, or raise ConfigError.

    In a managed plugin there is one socket, and the LOGLEVEL of its settings overrules the file's.
    """
    config = _read(path)
    settings = managed_settings(environment)
    if settings is None:
        return config
    level = KEYS["loglevel"].rule("LOGLEVEL", settings.get("LOGLEVEL", config.loglevel))
    return dataclasses.replace(config, pluginversion="v2", loglevel=level)


def _read(path: str) -> Config:
    unreadable = f"the configuration file {path} cannot be read"
    try:
        # Opening a FIFO would wait for its writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{unreadable}: it must be a regular file")
        with open(path, encoding="utf-8") as stream:
            text = stream.read(_MOST_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"{unreadable}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the configuration file {path} is not UTF-8 text") from None
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(
            f"the configuration file {path} is longer than {_MOST_CHARACTERS} characters; "
            "it must be lines KEY: VALUE"
        )
    try:
        config = parse(text)
        for key in ("cafile", "consulcafile"):
            _check_certificates(key, getattr(config, key))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def _check_certificates(key: str, name: str) -> None:
    """Raise ConfigError unless `name` is empty or a file of PEM certificates."""
    if not name:
        return
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        ssl.create_default_context(cafile=name)
    except OSError as error:  # an ssl.SSLError is one, too
        raise ConfigError(
            f"{key}: {name} cannot be used ({error.strerror or error}); "
            "it must be a file of PEM certificates"
        ) from None
