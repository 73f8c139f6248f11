"""What a value in the configuration file must look like.

Each rule takes the key as the operator wrote it and the value as YAML read it, and returns the
value that the program uses. It raises ConfigError with one line: the key, the value seen, and what
would be right.

Owns nothing. Must never show the value of a credential: a wrong one is named, not echoed.
"""

from __future__ import annotations

import base64
import binascii
import urllib.parse
import uuid
from collections.abc import Callable
from typing import Any

Rule = Callable[[str, Any], Any]

_DEFAULT_VSD_PORT = 8443
_DEFAULT_CONSUL_PORT = 8500
_API_PREFIX = "/nuage/api/"
_DEFAULT_API = "v6"
_LONGEST_SHOWN = 80
_LONGEST_DEVICE_NAME = 15  # the kernel's IFNAMSIZ without the final zero
_LONGEST_HOST_GC_S = 259_200
_SHORTEST_HOST_GC_S = 60


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line: key, value seen, what is right."""


def shown(value: Any) -> str:
    """The value for a message, at most 80 characters long, never with the credentials of a URL.

    A few lines of YAML aliases can stand for gigabytes, so containers are named, not written out.
    """
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list, set)):
        return f"a {type(value).__name__}"
    if isinstance(value, str) and "@" in value:
        return "the value"  # may be a URL with credentials, whatever else is wrong with it
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of more than 77 digits"
    quoted = repr(value)
    return quoted if len(quoted) <= _LONGEST_SHOWN else quoted[: _LONGEST_SHOWN - 3] + "…"


def text(key: str, value: Any) -> str:
    """One line of printable text, without blanks around it."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f'{key}: {shown(value)} is not a text; write {key}: "…"')
    if any(not c.isprintable() for c in value.strip()):
        raise ConfigError(f"{key}: {shown(value)} holds a control character; write it on one line")
    return value.strip()


def credential(key: str, value: Any) -> str:
    """Base64 of a UTF-8 text, decoded. The value is never part of a message."""
    hint = "write its base64 form, as `printf %s VALUE | base64` prints it"
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key}: the value is missing or not a text; {hint}")
    try:
        raw = base64.b64decode("".join(value.split()), validate=True)
        decoded = raw.decode("utf-8").rstrip("\r\n")
    except (binascii.Error, ValueError):
        raise ConfigError(f"{key}: the value is not base64 of a UTF-8 text; {hint}") from None
    if not decoded or any(not c.isprintable() for c in decoded):
        raise ConfigError(f"{key}: the decoded value is empty or holds a control character; {hint}")
    return decoded


def choice(*words: str) -> Rule:
    """One of these words, in upper or lower case; the result is in lower case."""

    def read(key: str, value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            raise ConfigError(
                f"{key}: {shown(value)} is not known; it must be one of {', '.join(words)}"
            )
        return word

    return read


def number(least: int, most: int, zero_is: int | None = None) -> Rule:
    """A whole number from `least` to `most`; 0 stands for `zero_is`, if that is given."""

    def read(key: str, value: Any) -> int:
        if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{key}: {shown(value)} is not a whole number from {least} to {most}")
        if value == 0 and zero_is is not None:
            return zero_is
        if not least <= value <= most:
            raise ConfigError(
                f"{key}: {shown(value)} is out of range; it must be from {least} to {most}"
            )
        return value

    return read


def gc_after(key: str, value: Any) -> int:
    """0 or false for never, else 60 to 259,200 seconds."""
    if value is False:
        return 0
    seconds: int = number(0, _LONGEST_HOST_GC_S)(key, value)
    if 0 < seconds < _SHORTEST_HOST_GC_S:
        raise ConfigError(
            f"{key}: {seconds} is too short; a host that restarts needs a minute, "
            f"so write 0 (never) or {_SHORTEST_HOST_GC_S} to {_LONGEST_HOST_GC_S} seconds"
        )
    return seconds


def flag(key: str, value: Any) -> bool:
    """YAML's true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key}: {shown(value)} is not true or false")
    return value


def path(key: str, value: Any) -> str:
    """An absolute path."""
    name = text(key, value)
    if not name.startswith("/"):
        raise ConfigError(f"{key}: {shown(value)} is not an absolute path; it must start with /")
    return name


def ovsdb(key: str, value: Any) -> str:
    """The address of an OVSDB server: an absolute path, `unix:PATH` or `tcp:ADDRESS:PORT`."""
    address = text(key, value)
    if address.startswith(("tcp:", "unix:", "/")):
        return address
    raise ConfigError(f"{key}: {shown(value)} is neither an absolute path nor tcp:ADDRESS:PORT")


def engine(key: str, value: Any) -> str:
    """A Docker engine's address: `unix:///PATH`, a path alone, or `tcp://HOST:PORT`."""
    address = text(key, value)
    if address.startswith("/"):
        address = "unix://" + address
    if not address.startswith(("unix:///", "tcp://")):
        raise ConfigError(
            f"{key}: {shown(value)} is not an engine address; "
            "write unix:///var/run/docker.sock or tcp://HOST:PORT"
        )
    return address


def fingerprint(key: str, value: Any) -> str:
    """A SHA-256 fingerprint: 64 hexadecimal digits, colons and blanks allowed between them."""
    digits = text(key, value).lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if len(digits) != 64 or any(c not in "0123456789abcdef" for c in digits):
        raise ConfigError(
            f"{key}: {shown(value)} is not a SHA-256 fingerprint of 64 hexadecimal digits"
        )
    return digits


def device(key: str, value: Any) -> str:
    """A name that the kernel takes for a network device."""
    name = text(key, value)
    is_too_long = len(name.encode()) > _LONGEST_DEVICE_NAME
    if is_too_long or "/" in name or any(c.isspace() for c in name):
        raise ConfigError(
            f"{key}: {shown(value)} is not a device name; "
            f"it has at most {_LONGEST_DEVICE_NAME} characters, no blank and no slash"
        )
    return name


def _split_url(
    key: str, value: Any, example: str, keys: str
) -> tuple[urllib.parse.SplitResult, str, int | None]:
    """The parts of a URL, its host as a URL has it, and its port.

    `keys` says which keys of the configuration take the credentials instead.
    """
    url = text(key, value)
    # Looked for anywhere: a password may hold a slash or a question mark, which end a host's name.
    if "@" in url:
        raise ConfigError(f"{key}: the URL holds credentials; write {example} and use {keys}")
    try:
        parts = urllib.parse.urlsplit(url.rstrip("/"))
        port = parts.port
    except ValueError as error:
        raise ConfigError(
            f"{key}: {shown(value)} is not a URL ({error}); write {example}"
        ) from None
    if port == 0:
        raise ConfigError(f"{key}: {shown(value)} has the port 0; write {example}")
    host = parts.hostname or ""
    return parts, f"[{host}]" if ":" in host else host, port


def vsd_url(key: str, value: Any) -> str:
    """`https://HOST[:PORT]`, with or without `/nuage/api/vX`; the result has both port and path."""
    example = "https://HOST:8443"
    parts, host, port = _split_url(key, value, example, "the keys username and password")
    if parts.scheme != "https" or not parts.hostname:
        raise ConfigError(f"{key}: {shown(value)} is not an https URL; write {example}")
    version = parts.path.removeprefix(_API_PREFIX) if parts.path else _DEFAULT_API
    is_version = all(c.isascii() and (c.isalnum() or c in "_.") for c in version)
    if parts.query or parts.fragment or not version or not is_version:
        raise ConfigError(
            f"{key}: {shown(value)} has a path that is not the VSD's; "
            f"write {example} or {example}{_API_PREFIX}{_DEFAULT_API}"
        )
    return f"https://{host}:{port or _DEFAULT_VSD_PORT}{_API_PREFIX}{version}"


def consul_url(key: str, value: Any) -> str:
    """`http(s)://HOST[:PORT]`; the result has the port."""
    example = "http://HOST:8500 or https://HOST:8501"
    parts, host, port = _split_url(key, value, example, "the key consultoken")
    has_more = parts.path or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or has_more:
        raise ConfigError(f"{key}: {shown(value)} is not Consul's address; write {example}")
    return f"{parts.scheme}://{host}:{port or _DEFAULT_CONSUL_PORT}"


def token(key: str, value: Any) -> str:
    """An ACL token as Consul shows it; a UUID also in base64, as the other credentials are written.

    The value is never part of a message.
    """
    word = value.strip() if isinstance(value, str) else ""
    if not word or len(word) > 1024 or not word.isascii() or not word.isprintable():
        raise ConfigError(
            f"{key}: the value is not an ACL token; write it as Consul shows it, in one line"
        )
    try:
        return str(uuid.UUID(base64.b64decode(word, validate=True).decode("ascii").strip()))
    except (binascii.Error, ValueError):
        return word


def cluster_name(key: str, value: Any) -> str:
    """1 to 64 letters, digits, `-`, `_` and `.`: it becomes a part of Consul's keys."""
    name = text(key, value)
    if len(name) > 64 or not name.isascii() or not all(c.isalnum() or c in "-_." for c in name):
        raise ConfigError(
            f"{key}: {shown(value)} is not a cluster's name; "
            "it has 1 to 64 letters, digits, '-', '_' and '.'"
        )
    return name
