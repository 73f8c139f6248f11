"""Owns the lab's CA and server certificate: `openssl` makes them, the state directory keeps them.

Never overwrites an existing CA: clients may trust it already.
"""

import ipaddress
import os
import re
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

_DAYS = "3650"
_CA_CONFIG = """[req]
distinguished_name = name
prompt = no
x509_extensions = ca
[name]
CN = nuage-lab VSD CA
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_LEAF_CONFIG = """[req]
distinguished_name = name
prompt = no
[name]
CN = {subject}
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {purpose}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_USER_NAME = re.compile(r"(?!(ca|server)\Z)[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Certificates:
    """Files of PEM text; without `ca_file` the certificate was given, not made here."""

    ca_file: Path | None
    certificate: Path
    key: Path


def provide(state_dir, names):
    """Return the certificates of a state directory; makes the CA once, the leaf for other `names`.

    Raises subprocess.CalledProcessError or FileNotFoundError if openssl fails.
    """
    ca, ca_key = state_dir / "ca.pem", state_dir / "ca.key"
    if not (ca.exists() and ca_key.exists()):
        config = state_dir / "ca.cnf"
        config.write_text(_CA_CONFIG, encoding="utf-8")
        _openssl(
            "req",
            "-x509",
            *_NEW_KEY,
            "-days",
            _DAYS,
            "-config",
            config,
            "-keyout",
            ca_key,
            "-out",
            ca,
        )
        os.chmod(ca_key, 0o600)
        for leaf in state_dir.glob("*.cnf"):
            leaf.unlink()
    alternatives = ", ".join(_alternative_name(name) for name in dict.fromkeys(names))
    config = _LEAF_CONFIG.format(subject="nuage-lab VSD", purpose="serverAuth")
    _issue(state_dir, "server", f"{config}subjectAltName = {alternatives}\n")
    return Certificates(ca, state_dir / "server.pem", state_dir / "server.key")


def provide_client(state_dir, user_name):
    """Make USER.pem and USER.key for the port with mutual TLS, in a directory with a CA (vsd §2.5).

    Raises ValueError for a name that cannot be a file's, else as `provide`.
    """
    if not _USER_NAME.fullmatch(user_name):
        raise ValueError(f"{user_name!r} cannot be the name of a file")
    _issue(state_dir, user_name, _LEAF_CONFIG.format(subject=user_name, purpose="clientAuth"))


def _issue(state_dir, stem, wanted):
    ca, ca_key = state_dir / "ca.pem", state_dir / "ca.key"
    leaf, leaf_key = state_dir / f"{stem}.pem", state_dir / f"{stem}.key"
    leaf_config, request = state_dir / f"{stem}.cnf", state_dir / f"{stem}.csr"
    is_current = leaf.exists() and leaf_key.exists() and leaf_config.exists()
    if not is_current or leaf_config.read_text(encoding="utf-8") != wanted:
        leaf_config.write_text(wanted, encoding="utf-8")
        _openssl(
            "req", "-new", *_NEW_KEY, "-config", leaf_config, "-keyout", leaf_key, "-out", request
        )
        _openssl(
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            ca,
            "-CAkey",
            ca_key,
            "-set_serial",
            str(secrets.randbits(120) + 1),
            "-days",
            _DAYS,
            "-extfile",
            leaf_config,
            "-extensions",
            "leaf",
            "-out",
            leaf,
        )
        request.unlink()
        os.chmod(leaf_key, 0o600)


def _openssl(*arguments):
    command = ["openssl", *(str(argument) for argument in arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


def _alternative_name(name):
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"
