"""The keys of the configuration file.

Owns their names, defaults and meanings. A key is declared once, as a field of Config: rule, unit,
what a reload does with it, and what it means. build/config_reference.py makes the sample file, the
table of the README and the list of the man page from these declarations; a test compares them.
"""

from __future__ import annotations

import dataclasses
import enum
import urllib.parse
from typing import Any

from nuage_appliance.config import rules
from nuage_appliance.config.rules import Rule


class Reload(enum.Enum):
    """What SIGHUP does with a changed key."""

    RESTART = "needs a restart"
    LIVE = "counts from now on"
    VSD = "counts from now on: the session with the VSD is made anew"


class Section(enum.Enum):
    """The part of the sample file that a key stands in."""

    REQUIRED = "to be filled in: nothing starts without these four"
    HOST = "this host"
    TRUST = (
        "trust in the VSD's certificate: without these keys a certificate that the system's CAs\n"
        "--- vouch for is accepted, else the first one that is seen, and from then on only that one"
    )
    CONSUL = "networks of several hosts by Consul: with scope global, the same on every host"
    RARE = "seldom changed"


@dataclasses.dataclass(frozen=True)
class Key:
    """The declaration of one key."""

    name: str
    rule: Rule
    default: Any
    section: Section
    reload: Reload
    help: str  # one sentence or two; literal values in backticks, {unit} where the unit belongs
    unit: str  # seconds, milliseconds, MiB, bytes or empty
    example: str  # for the sample file, where the default is empty
    aliases: tuple[str, ...]  # other spellings of the name
    needs: str  # the key without which this one has no effect, or empty
    is_commented: bool  # whether the sample file shows it as a comment
    is_required: bool


def _key(
    rule: Rule,
    section: Section,
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    reload: Reload = Reload.RESTART,
    unit: str = "",
    example: str = "",
    aliases: tuple[str, ...] = (),
    needs: str = "",
    is_commented: bool = True,
    is_secret: bool = False,
) -> Any:
    """Declare a field of Config that is a key of the file. Without a default it is required."""
    declared = {
        "rule": rule,
        "section": section,
        "help": help,
        "reload": reload,
        "unit": unit,
        "example": example,
        "aliases": aliases,
        "needs": needs,
        "is_commented": is_commented,
    }
    return dataclasses.field(default=default, repr=not is_secret, metadata=declared)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that an operator can set; see KEYS for units and meanings."""

    url: str = _key(
        rules.vsd_url,
        Section.REQUIRED,
        "The VSD: `https://HOST:8443`, with or without `/nuage/api/v6`.",
        reload=Reload.VSD,
        is_commented=False,
    )
    username: str = _key(
        rules.credential,
        Section.REQUIRED,
        "The VSD user's name in base64, as `printf %s VALUE | base64` prints it.",
        reload=Reload.VSD,
        is_commented=False,
    )
    password: str = _key(
        rules.credential,
        Section.REQUIRED,
        "The VSD user's password in base64.",
        reload=Reload.VSD,
        is_commented=False,
        is_secret=True,
    )
    organization: str = _key(
        rules.credential,
        Section.REQUIRED,
        "The VSD user's organization in base64; `csp` is the administrators'.",
        reload=Reload.VSD,
        is_commented=False,
    )
    scope: str = _key(
        rules.choice("local", "global"),
        Section.HOST,
        "`local`: networks of this host. `global`: networks of all hosts of a cluster, made known "
        "by a cluster store, by swarm, or by Consul (below).",
        "global",
        is_commented=False,
    )
    loglevel: str = _key(
        rules.choice("debug", "info", "warn", "error"),
        Section.HOST,
        "The lines that are logged: `Debug`, `Info`, `Warn` or `Error`.",
        "warn",
        reload=Reload.LIVE,
        is_commented=False,
    )
    logfilesize: int = _key(
        rules.number(1, 100_000, zero_is=10),
        Section.HOST,
        "The size in {unit} at which the log is rotated; five old files are kept.",
        10,
        reload=Reload.LIVE,
        unit="MiB",
        is_commented=False,
    )
    vrsbridge: str = _key(
        rules.device,
        Section.HOST,
        "The bridge of the VRS.",
        "alubr0",
        is_commented=False,
    )
    vrssocketfile: str = _key(
        rules.ovsdb,
        Section.HOST,
        "The OVSDB of the VRS: a path, or `tcp:ADDRESS:PORT`.",
        "/var/run/openvswitch/db.sock",
        aliases=("vrsendpoint",),
        is_commented=False,
    )
    dockersocketfile: str = _key(
        rules.engine,
        Section.HOST,
        "The Docker engine: `unix:///PATH` or `tcp://HOST:PORT`.",
        "unix:///var/run/docker.sock",
        aliases=("dockerdndpoint", "dockerendpoint"),
        is_commented=False,
    )
    numofretries: int = _key(
        rules.number(1, 100, zero_is=5),
        Section.HOST,
        "Attempts of a call to the VSD.",
        5,
        reload=Reload.VSD,
        is_commented=False,
    )
    timeinterval: int = _key(
        rules.number(1, 60_000, zero_is=100),
        Section.HOST,
        "The pause in {unit} before the second attempt of a call to the VSD.",
        100,
        reload=Reload.VSD,
        unit="milliseconds",
        is_commented=False,
    )
    cafile: str = _key(
        rules.path,
        Section.TRUST,
        "PEM file of the CA that signed the VSD's certificate.",
        "",
        reload=Reload.VSD,
        example="/etc/pki/tls/certs/vsd-ca.pem",
    )
    tlsfingerprint: str = _key(
        rules.fingerprint,
        Section.TRUST,
        "SHA-256 fingerprint of the one certificate to accept, 64 hexadecimal digits.",
        "",
        reload=Reload.VSD,
        example="0" * 64,
    )
    tlsverify: bool = _key(
        rules.flag,
        Section.TRUST,
        "`false` accepts any certificate, and so anybody on the path; each start warns about it.",
        True,
        reload=Reload.VSD,
    )
    consul: str = _key(
        rules.consul_url,
        Section.CONSUL,
        "Consul's address, `http(s)://HOST:8500`: networks of scope `global` appear on every host, "
        "and hosts are registered.",
        "",
        example="http://192.0.2.1:8500",
    )
    consultoken: str = _key(
        rules.token,
        Section.CONSUL,
        "Consul's ACL token, as Consul shows it; a UUID also in base64.",
        "",
        example="00000000-0000-0000-0000-000000000000",
        needs="consul",
        is_secret=True,
    )
    consulcafile: str = _key(
        rules.path,
        Section.CONSUL,
        "PEM file of the CA that signed the certificate of an https Consul; without it the "
        "system's CAs count.",
        "",
        example="/etc/pki/tls/certs/consul-ca.pem",
        needs="consul",
    )
    clustername: str = _key(
        rules.cluster_name,
        Section.CONSUL,
        "The name of the group of hosts that share networks.",
        "default",
        needs="consul",
    )
    hostgcafter: int = _key(
        rules.gc_after,
        Section.CONSUL,
        "The time in {unit} after which a lost host's addresses are returned: `0` for never, "
        "else at least 60; docs/MULTIHOST.md has the rule.",
        0,
        unit="seconds",
        needs="consul",
    )
    hostid: str = _key(
        rules.text,
        Section.RARE,
        "This host's external id on the VSD, instead of `HOSTNAME-SYSTEMID`.",
        "",
        example="server1-00000000-0000-0000-0000-000000000000",
    )
    mtu: int = _key(
        rules.number(576, 65_535, zero_is=0),
        Section.RARE,
        "The MTU of the containers' links in {unit}; `0` takes the bridge's.",
        0,
        reload=Reload.LIVE,
        unit="bytes",
    )
    requesttimeout: int = _key(
        rules.number(2, 300),
        Section.RARE,
        "The time in {unit} within which every call of the engine is answered.",
        20,
        reload=Reload.LIVE,
        unit="seconds",
    )
    auditinterval: int = _key(
        rules.number(5, 86_400),
        Section.RARE,
        "The time in {unit} between two comparisons of VSD, VRS, engine and links.",
        30,
        reload=Reload.LIVE,
        unit="seconds",
    )
    pluginversion: str = _key(
        rules.choice("v1", "v2"),
        Section.RARE,
        "`v1`: two plugin sockets. `v2`: one. A managed plugin is always `v2`.",
        "v1",
    )
    logfile: str = _key(
        rules.path,
        Section.RARE,
        "The log.",
        "/var/log/nuage-libnetwork/nuage-libnetwork.log",
        reload=Reload.LIVE,
    )
    plugindir: str = _key(
        rules.path,
        Section.RARE,
        "The directory of the plugin sockets.",
        "/run/docker/plugins",
    )
    statedir: str = _key(
        rules.path,
        Section.RARE,
        "The directory of what outlives a restart: host id, pinned certificate, waiting releases.",
        "/var/lib/nuage-libnetwork",
    )
    statussocket: str = _key(
        rules.path,
        Section.RARE,
        "The socket that answers with the status.",
        "/run/nuage-libnetwork/status.sock",
    )
    warnings: tuple[str, ...] = ()

    @property
    def vsd_root(self) -> str:
        """The VSD's address without a path, such as `https://vsd.example.com:8443`."""
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def vsd_api(self) -> str:
        """The whole base URL of the REST API, without a slash at its end."""
        return self.url

    @property
    def has_replicas(self) -> bool:
        """True when the appliance itself makes networks known to other hosts.

        A managed plugin leaves that to swarm.
        """
        return bool(self.consul) and self.scope == "global" and self.pluginversion == "v1"

    @property
    def engine_scope(self) -> str:
        """The scope for the engine; local for replicas, so that every engine takes them."""
        return "local" if self.has_replicas else self.scope

    def changed_keys(self, other: Config) -> tuple[Key, ...]:
        """The keys whose values differ, in the order of their declaration."""
        return tuple(
            key for name, key in KEYS.items() if getattr(self, name) != getattr(other, name)
        )


KEYS: dict[str, Key] = {
    field.name: Key(
        name=field.name,
        default="" if field.default is dataclasses.MISSING else field.default,
        is_required=field.default is dataclasses.MISSING,
        **field.metadata,
    )
    for field in dataclasses.fields(Config)
    if field.metadata
}
ALIASES = {alias: key.name for key in KEYS.values() for alias in key.aliases}
