"""An engine whose driver dies in the middle of a call: libnetwork's client repeats the call, and
whatever fails is rolled back.
"""

import http.client
import os

from tests.support.scripted_engine import Plugin, PluginError, ScriptedEngine

# Errors of these are logged and ignored: the engine goes on with its next call (libnetwork §2.9,
# §3.5, §4.2).
_FORGIVEN = {"IpamDriver.ReleaseAddress", "IpamDriver.ReleasePool"} | {
    f"NetworkDriver.{name}"
    for name in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "DeleteNetwork")
}
_ATTEMPTS = 3


class _NotListening(Exception):
    pass


class Socket(Plugin):
    """A plugin socket as libnetwork's client uses it (libnetwork §1.5).

    A call that could not be sent is sent again; one whose connection broke after it was sent is
    repeated without its body.
    """

    def __init__(self, path, revive):
        """`revive()` does what systemd does meanwhile, and returns when the driver
        listens again.
        """
        super().__init__(path)
        self._revive = revive

    def _connection(self):
        try:
            return super()._connection()
        except OSError as error:
            raise _NotListening(str(error)) from None

    def raw(self, method, body=b""):
        for _ in range(_ATTEMPTS):
            try:
                return super().raw(method, body)
            except _NotListening:
                pass
            except (OSError, http.client.HTTPException):
                body = b""
            self._revive()
        raise AssertionError(f"{method} could not be sent in {_ATTEMPTS} attempts")

    def call(self, method, body=None):
        try:
            return super().call(method, body)
        except PluginError:
            if method in _FORGIVEN:
                return {}
            raise


class PatientEngine(ScriptedEngine):
    """A ScriptedEngine that outlives the death of its driver."""

    def __init__(self, plugin_directory, api, revive):
        super().__init__(plugin_directory, api)
        self.network = Socket(os.path.join(plugin_directory, "nuage.sock"), revive)
        self.ipam = Socket(os.path.join(plugin_directory, "nuage-ipam.sock"), revive)
