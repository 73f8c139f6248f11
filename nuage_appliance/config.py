"""The YAML configuration file, read once into one frozen Config.

Owns the names of the keys, their defaults and every rule about their values. Must never show the value of a
credential: a wrong one is named, not echoed.
"""

from __future__ import annotations

import base64
import binascii
import collections
import dataclasses
import difflib
import errno
import os
import ssl
import stat
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import yaml

_DEFAULT_VSD_PORT = 8443
_API_PREFIX = "/nuage/api/"
_DEFAULT_API = "v6"
_MOST_CHARACTERS = 1 << 20


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line: key, value seen, what would be right."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that an operator can set. Paths are absolute, times in the unit that the name gives."""

    url: str
    username: str
    password: str = dataclasses.field(repr=False)
    organization: str
    scope: str = "global"
    loglevel: str = "warn"
    logfilesize: int = 10
    logfile: str = "/var/log/nuage-libnetwork/nuage-libnetwork.log"
    vrsbridge: str = "alubr0"
    vrssocketfile: str = "/var/run/openvswitch/db.sock"
    dockersocketfile: str = "unix:///var/run/docker.sock"
    numofretries: int = 5
    timeinterval: int = 100
    pluginversion: str = "v1"
    hostid: str = ""
    cafile: str = ""
    tlsfingerprint: str = ""
    tlsverify: bool = True
    mtu: int = 0
    plugindir: str = "/run/docker/plugins"
    statedir: str = "/var/lib/nuage-libnetwork"
    statussocket: str = "/run/nuage-libnetwork/status.sock"
    requesttimeout: int = 20
    auditinterval: int = 30
    consul: str = ""
    consultoken: str = dataclasses.field(default="", repr=False)
    consulcafile: str = ""
    clustername: str = "default"
    hostgcafter: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def vsd_root(self) -> str:
        """The VSD's address without a path, such as `https://vsd.example.com:8443`."""
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def has_replicas(self) -> bool:
        """True when the appliance itself makes networks known to other hosts; a managed plugin leaves that to swarm."""
        return bool(self.consul) and self.scope == "global" and self.pluginversion == "v1"

    @property
    def engine_scope(self) -> str:
        """The scope that the engine is told: local for networks that are replicated, so that every engine takes them."""
        return "local" if self.has_replicas else self.scope

    @property
    def vsd_api(self) -> str:
        """The whole base URL of the REST API, without a slash at its end."""
        return self.url


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f'{key}: {_shown(value)} is not a text; write {key}: "…"')
    if any(not c.isprintable() for c in value.strip()):
        raise ConfigError(f"{key}: {_shown(value)} holds a control character; write it on one line")
    return value.strip()


def _shown(value: Any) -> str:
    """The value for a message, and short: what aliases make of a few lines may be too long to be written at all."""
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list, set)):
        return f"a {type(value).__name__}"
    if isinstance(value, str) and "@" in value:
        return "the value"  # a URL's credentials are never shown, whatever else is wrong with it
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of more than 77 digits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _credential(key: str, value: Any) -> str:
    """Decode base64; the value is never part of a message."""
    hint = "write its base64 form, as `printf %s VALUE | base64` prints it"
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key}: the value is missing or not a text; {hint}")
    try:
        raw = base64.b64decode("".join(value.split()), validate=True)
        text = raw.decode("utf-8").rstrip("\r\n")
    except (binascii.Error, ValueError):
        raise ConfigError(f"{key}: the value is not base64 of a UTF-8 text; {hint}") from None
    if not text or any(not c.isprintable() for c in text):
        raise ConfigError(f"{key}: the decoded value is empty or holds a control character; {hint}")
    return text


def _choice(*words: str) -> Callable[[str, Any], str]:
    def read(key: str, value: Any) -> str:
        text = value.strip().lower() if isinstance(value, str) else ""
        if text not in words:
            raise ConfigError(
                f"{key}: {_shown(value)} is not known; it must be one of {', '.join(words)}"
            )
        return text

    return read


def _number(least: int, most: int, zero_is: int | None = None) -> Callable[[str, Any], int]:
    def read(key: str, value: Any) -> int:
        if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(
                f"{key}: {_shown(value)} is not a whole number from {least} to {most}"
            )
        if value == 0 and zero_is is not None:
            return zero_is
        if not least <= value <= most:
            raise ConfigError(
                f"{key}: {_shown(value)} is out of range; it must be from {least} to {most}"
            )
        return value

    return read


def _gc_after(key: str, value: Any) -> int:
    if value is False:
        return 0
    seconds = _number(0, 259_200)(key, value)
    if 0 < seconds < 60:
        raise ConfigError(
            f"{key}: {seconds} is too short; a host that restarts needs a minute, so write 0 (never) or 60 to 259200 seconds"
        )
    return seconds


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key}: {_shown(value)} is not true or false")
    return value


def _path(key: str, value: Any) -> str:
    text = _text(key, value)
    if not text.startswith("/"):
        raise ConfigError(f"{key}: {_shown(value)} is not an absolute path; it must start with /")
    return text


def _ovsdb(key: str, value: Any) -> str:
    text = _text(key, value)
    if text.startswith(("tcp:", "unix:")):
        return text
    if text.startswith("/"):
        return text
    raise ConfigError(f"{key}: {_shown(value)} is neither an absolute path nor tcp:ADDRESS:PORT")


def _engine(key: str, value: Any) -> str:
    text = _text(key, value)
    if text.startswith("/"):
        text = "unix://" + text
    if not text.startswith(("unix:///", "tcp://")):
        raise ConfigError(
            f"{key}: {_shown(value)} is not an engine address; write unix:///var/run/docker.sock or tcp://HOST:PORT"
        )
    return text


def _fingerprint(key: str, value: Any) -> str:
    text = _text(key, value).lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if len(text) != 64 or any(c not in "0123456789abcdef" for c in text):
        raise ConfigError(
            f"{key}: {_shown(value)} is not a SHA-256 fingerprint of 64 hexadecimal digits"
        )
    return text


def _device(key: str, value: Any) -> str:
    text = _text(key, value)
    if len(text.encode()) > 15 or "/" in text or any(c.isspace() for c in text):
        raise ConfigError(
            f"{key}: {_shown(value)} is not a device name; it has at most 15 characters, no blank and no slash"
        )
    return text


def _split_url(
    key: str, value: Any, example: str, keys: str
) -> tuple[urllib.parse.SplitResult, str, int | None]:
    """The parts of a URL, its host as a URL has it, and its port; `keys` name where credentials belong."""
    text = _text(key, value)
    if "@" in text:  # anywhere: a password may hold what ends a host's name
        raise ConfigError(f"{key}: the URL holds credentials; write {example} and use {keys}")
    try:
        parts = urllib.parse.urlsplit(text.rstrip("/"))
        port = parts.port
    except ValueError as error:
        raise ConfigError(
            f"{key}: {_shown(value)} is not a URL ({error}); write {example}"
        ) from None
    if port == 0:
        raise ConfigError(f"{key}: {_shown(value)} has the port 0; write {example}")
    host = parts.hostname or ""
    return parts, f"[{host}]" if ":" in host else host, port


def _url(key: str, value: Any) -> str:
    """Accept `https://HOST:8443` with or without `/nuage/api/vX`; the result always has both port and path."""
    parts, host, port = _split_url(
        key, value, "https://HOST:8443", "the keys username and password"
    )
    if parts.scheme != "https" or not parts.hostname:
        raise ConfigError(f"{key}: {_shown(value)} is not an https URL; write https://HOST:8443")
    version = parts.path.removeprefix(_API_PREFIX) if parts.path else _DEFAULT_API
    if (
        parts.query
        or parts.fragment
        or not version
        or not all(c.isascii() and c.isalnum() or c in "_." for c in version)
    ):
        raise ConfigError(
            f"{key}: {_shown(value)} has a path that is not the VSD's; write https://HOST:8443 or https://HOST:8443/nuage/api/v6"
        )
    return f"https://{host}:{port or _DEFAULT_VSD_PORT}{_API_PREFIX}{version}"


def _consul_url(key: str, value: Any) -> str:
    """`http(s)://HOST[:PORT]`, with the port in the result."""
    parts, host, port = _split_url(
        key, value, "http://HOST:8500 or https://HOST:8501", "the key consultoken"
    )
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path
        or parts.query
        or parts.fragment
    ):
        raise ConfigError(
            f"{key}: {_shown(value)} is not Consul's address; write http://HOST:8500 or https://HOST:8501"
        )
    return f"{parts.scheme}://{host}:{port or 8500}"


def _token(key: str, value: Any) -> str:
    """An ACL token as Consul shows it, or its base64 form as this file has its other credentials; never part of a message."""
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > 1024 or not text.isascii() or not text.isprintable():
        raise ConfigError(
            f"{key}: the value is not an ACL token; write it as Consul shows it, in one line"
        )
    try:
        return str(uuid.UUID(base64.b64decode(text, validate=True).decode("ascii").strip()))
    except (binascii.Error, ValueError):
        return text


def _cluster_name(key: str, value: Any) -> str:
    text = _text(key, value)
    if len(text) > 64 or not text.isascii() or not all(c.isalnum() or c in "-_." for c in text):
        raise ConfigError(
            f"{key}: {_shown(value)} is not a cluster's name; it has 1 to 64 letters, digits, '-', '_' and '.'"
        )
    return text


_RULES: dict[str, Callable[[str, Any], Any]] = {
    "url": _url,
    "username": _credential,
    "password": _credential,
    "organization": _credential,
    "scope": _choice("local", "global"),
    "loglevel": _choice("debug", "info", "warn", "error"),
    "logfilesize": _number(1, 100_000, zero_is=10),
    "logfile": _path,
    "vrsbridge": _device,
    "vrssocketfile": _ovsdb,
    "dockersocketfile": _engine,
    "numofretries": _number(1, 100, zero_is=5),
    "timeinterval": _number(1, 60_000, zero_is=100),
    "pluginversion": _choice("v1", "v2"),
    "hostid": _text,
    "cafile": _path,
    "tlsfingerprint": _fingerprint,
    "tlsverify": _flag,
    "mtu": _number(576, 65_535, zero_is=0),
    "plugindir": _path,
    "statedir": _path,
    "statussocket": _path,
    "requesttimeout": _number(2, 300),
    "auditinterval": _number(5, 86_400),
    "consul": _consul_url,
    "consultoken": _token,
    "consulcafile": _path,
    "clustername": _cluster_name,
    "hostgcafter": _gc_after,
}
_ALIASES = {
    "vrsendpoint": "vrssocketfile",
    "dockerdndpoint": "dockersocketfile",
    "dockerendpoint": "dockersocketfile",
}
_REQUIRED = ("url", "username", "password", "organization")
_UNUSED = ("port",)
# Only a managed plugin's config.json has this name, so that CONFIG and LOGLEVEL of another program's environment mean nothing here.
_MANAGED_MARK = "NUAGE_MANAGED_PLUGIN"


def parse(text: str) -> Config:
    """Turn the text of a configuration file into a Config, or raise ConfigError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(
            f"the file is not valid YAML{where}: {problem}; each line must be KEY: VALUE"
        ) from None
    except (
        RecursionError,
        ValueError,
        LookupError,
        AttributeError,
    ):  # the last three: a tag such as !!bool before what is none
        raise ConfigError("the file is not valid YAML; each line must be KEY: VALUE") from None
    if not isinstance(document, dict):
        raise ConfigError(f"the file holds {type(document).__name__} instead of lines KEY: VALUE")
    values: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    written_keys = collections.Counter(
        node.value for node, _ in yaml.compose(text).value if isinstance(node.value, str)
    )
    warnings = [
        f"the configuration key {_shown(key)} is written {count} times; the last one counts"
        for key, count in written_keys.items()
        if count > 1
    ]
    known = [*_RULES, *_ALIASES]
    for written, value in document.items():
        key = _ALIASES.get(written, written) if isinstance(written, str) else written
        if key in _UNUSED:
            continue
        if key not in _RULES:
            near = (
                difflib.get_close_matches(written, known, n=1) if isinstance(written, str) else []
            )
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(
                f"the configuration key {_shown(written)} is not known and is ignored{hint}"
            )
            continue
        if key in values and values[key] != value:
            raise ConfigError(
                f"{written}: {_shown(value)} contradicts {spelt[key]}: {_shown(values[key])}; they are one setting, write it once"
            )
        values[key], spelt[key] = value, written
    for key in _REQUIRED:
        if values.get(key) in (None, ""):
            hint = "write https://HOST:8443" if key == "url" else "write its base64 form"
            raise ConfigError(f"{key}: the key is missing or empty; {hint}")
    read = {
        key: _RULES[key](spelt[key], value)
        for key, value in values.items()
        if value is not None and value != ""
    }
    host = urllib.parse.urlsplit(read["url"]).hostname or ""
    if not all(c.isalnum() or c in ".-:_" for c in host):
        warnings.append(
            f"url: {host!r} does not look like a host name; write the address of your VSD"
        )
    if read.get("tlsverify") is False:
        warnings.append(
            "tlsverify is false: the VSD's certificate is not checked and anybody on the path can read the credentials"
        )
    if not read.get("consul"):
        warnings += [
            f"{key} has no effect without consul"
            for key in ("consultoken", "consulcafile", "clustername", "hostgcafter")
            if read.get(key)
        ]
    elif read.get("consultoken") and read["consul"].startswith("http:"):
        warnings.append("consul is an http address: the token crosses the network in clear text")
    return Config(**read, warnings=tuple(warnings))


def managed_settings(environment: Mapping[str, str]) -> dict[str, str] | None:
    """CONFIG and LOGLEVEL as `docker plugin set` gave them, without the empty ones; None outside of a managed plugin."""
    if not environment.get(_MANAGED_MARK):
        return None
    return {name: environment[name] for name in ("CONFIG", "LOGLEVEL") if environment.get(name)}


def load(path: str, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the file `path`, or raise ConfigError. In a managed plugin, one socket and the LOGLEVEL of its settings overrule the file."""
    config = _read(path)
    settings = managed_settings(environment)
    if settings is None:
        return config
    level = settings.get("LOGLEVEL", config.loglevel)
    return dataclasses.replace(
        config, pluginversion="v2", loglevel=_RULES["loglevel"]("LOGLEVEL", level)
    )


def _read(path: str) -> Config:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(
                f"the configuration file {path} cannot be read: it must be a regular file"
            )
        with open(path, encoding="utf-8") as stream:
            text = stream.read(_MOST_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(
            f"the configuration file {path} cannot be read: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"the configuration file {path} is not UTF-8 text") from None
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(
            f"the configuration file {path} is longer than {_MOST_CHARACTERS} characters; it must be lines KEY: VALUE"
        )
    try:
        config = parse(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    for key in ("cafile", "consulcafile"):
        name = getattr(config, key)
        try:
            if name and not os.path.isfile(name):
                os.stat(name)
                raise OSError(errno.EINVAL, "not a regular file")
            if name:
                ssl.create_default_context(cafile=name)
        except OSError as error:  # an ssl.SSLError is one too
            raise ConfigError(
                f"{path}: {key}: {name} cannot be used ({error.strerror or error}); it must be a file of PEM certificates"
            ) from None
    return config
