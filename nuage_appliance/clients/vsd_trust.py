"""Which certificate of the VSD is trusted, and the memory of pinned ones.

Owns the pin file in the state directory. The first of these that applies decides:

1. `tlsverify: false`: any certificate is trusted.
2. `tlsfingerprint`: only the certificate with this SHA-256 is trusted, whoever signed it.
3. `cafile`: the CAs in it verify the certificate and its name.
4. The CAs of the system verify them.
5. They do not: the certificate that was seen first is pinned, and is the only one from then on.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import os
import socket
import ssl

from nuage_appliance.base import files, system_cas
from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Denied, Refused, Unavailable
from nuage_appliance.config import Config

_log = logging.getLogger(__name__)
_CONNECT_S = 5.0


def _colons(fingerprint: str) -> str:
    return ":".join(fingerprint[i : i + 2] for i in range(0, len(fingerprint), 2)).upper()


def _system_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    bundle = system_cas.bundle()
    if bundle:
        context.load_verify_locations(cafile=bundle)
    return context


def _open_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Trust:
    """Decides how connections to one VSD are checked.

    `context` and `fingerprint` are what a connection needs. `is_first_use` is true when the
    configuration leaves the decision to establish().
    """

    def __init__(self, config: Config, host: str, port: int) -> None:
        """Raises Refused when the CA file cannot be used."""
        self._host, self._port = host, port
        self._pin_file = os.path.join(config.statedir, "vsd-certificate.json")
        self.is_first_use = False
        self.fingerprint: str | None = None
        self.context: ssl.SSLContext
        if not config.tlsverify:
            self.context = _open_context()
        elif config.tlsfingerprint:
            self.context, self.fingerprint = _open_context(), config.tlsfingerprint
        elif config.cafile:
            try:
                self.context = ssl.create_default_context(cafile=config.cafile)
            except (OSError, ssl.SSLError) as error:
                reason = getattr(error, "strerror", None) or error
                raise Refused(
                    f"cafile: {config.cafile} cannot be used ({reason}); "
                    "it must be a file of PEM certificates"
                ) from None
        else:
            self.is_first_use = True
            self.context = _system_context()

    @property
    def by(self) -> str:
        """How the certificate is checked, for the log and the status."""
        if self.fingerprint:
            return f"pinned SHA-256 {_colons(self.fingerprint)}"
        return "not checked" if self.context.verify_mode == ssl.CERT_NONE else "verified by a CA"

    def establish(self, deadline: Deadline) -> None:
        """In first-use mode, decide between the system's CAs and a pin. Switches greenlets.

        Raises Unavailable when the VSD cannot be reached, Denied when it shows another certificate
        than the pinned one.
        """
        if not self.is_first_use:
            return
        system = _system_context()
        if self._shown(system, deadline) is not None:
            self.context, self.fingerprint = system, None
            return
        certificate = self._shown(_open_context(), deadline)
        if certificate is None:
            raise Unavailable(f"the VSD at {self._host}:{self._port} shows no certificate")
        seen = hashlib.sha256(certificate).hexdigest()
        pinned = self._read_pin()
        if pinned is None:
            self._write_pin(seen)
            _log.warning(
                "the certificate of the VSD at %s:%d is signed by no known CA; "
                "from now on only this one is accepted: SHA-256 %s "
                "(kept in %s; set cafile or tlsfingerprint to decide yourself)",
                self._host,
                self._port,
                _colons(seen),
                self._pin_file,
            )
        elif pinned != seen:
            raise Denied(
                f"the VSD at {self._host}:{self._port} shows another certificate "
                f"(SHA-256 {_colons(seen)}) than the one pinned before "
                f"(SHA-256 {_colons(pinned)}); if it was replaced on purpose, delete "
                f"{self._pin_file} or set tlsfingerprint"
            )
        self.context, self.fingerprint = _open_context(), seen

    def _shown(self, context: ssl.SSLContext, deadline: Deadline) -> bytes | None:
        """The certificate the VSD shows, or None when `context` does not accept it."""
        where = f"the VSD at {self._host}:{self._port}"
        try:
            with (
                socket.create_connection(
                    (self._host, self._port), timeout=deadline.bound(_CONNECT_S) or 0.01
                ) as plain,
                context.wrap_socket(plain, server_hostname=self._host) as secured,
            ):
                return secured.getpeercert(binary_form=True)
        except ssl.SSLCertVerificationError:
            return None
        except ssl.SSLError as error:
            raise Unavailable(
                f"{where} does not speak TLS as expected: {error.reason or error}"
            ) from None
        except (OSError, UnicodeError) as error:
            raise Unavailable(
                f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}"
            ) from None

    def _read_pin(self) -> str | None:
        try:
            with open(self._pin_file, encoding="utf-8") as stream:
                pin: object = json.load(stream).get(f"{self._host}:{self._port}")
            if pin is None or isinstance(pin, str):
                return pin
            raise ValueError("a fingerprint is not a text")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError) as error:
            raise Denied(
                f"the pinned certificates in {self._pin_file} cannot be read ({error}); "
                "repair or delete the file"
            ) from None

    def _write_pin(self, fingerprint: str) -> None:
        try:
            pins: dict[str, str] = {}
            if os.path.exists(self._pin_file):
                with open(self._pin_file, encoding="utf-8") as stream:
                    pins = json.load(stream)
            pins[f"{self._host}:{self._port}"] = fingerprint
            pins["pinned"] = datetime.datetime.now(datetime.timezone.utc).isoformat(
                timespec="seconds"
            )
            files.replace(self._pin_file, json.dumps(pins))
        except OSError as error:
            _log.error(
                "the certificate's fingerprint cannot be kept in %s (%s); "
                "it is trusted until the next restart only",
                self._pin_file,
                error.strerror,
            )
