"""Where the host keeps the CAs that it trusts.

Owns nothing. Needed because the TLS library inside the single-file binary looks where the machine
that built the binary keeps them.
"""

from __future__ import annotations

import os

# Debian, RHEL, SUSE.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)


def bundle() -> str | None:
    """The path of the host's PEM file of CAs, or None when no usual place has one.

    `SSL_CERT_FILE` comes first, as for OpenSSL.
    """
    for path in (os.environ.get("SSL_CERT_FILE"), *_BUNDLES):
        if path and os.path.exists(path):
            return path
    return None
