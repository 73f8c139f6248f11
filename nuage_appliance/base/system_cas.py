"""Where the host keeps the CAs it trusts. A frozen program's own libraries look where they would be on the machine that it was made on."""

from __future__ import annotations

import os

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)  # Debian, RHEL, SUSE


def bundle() -> str | None:
    """Return the path of the host's PEM file of CAs; None when it has none at a usual place. `SSL_CERT_FILE` comes first, as for OpenSSL."""
    return next(
        (
            path
            for path in (os.environ.get("SSL_CERT_FILE"), *_BUNDLES)
            if path and os.path.exists(path)
        ),
        None,
    )
