"""One request to a controller's control socket."""

import json
import socket


def ask(path, request, timeout=20.0):
    """Return the controller's answer; OSError when it cannot be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        client.connect(str(path))
        client.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(client.makefile("rb").readline() or b"{}")
