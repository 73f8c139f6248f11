"""What may be wrong with the backends around a death of the appliance."""

from tests.support.host import VSD_ADDRESS


class Fault:
    """Nothing is wrong. The steps are called in this order, whether they do anything or not."""

    # True when the operation itself sees it, so that it has other effects than without
    during = False

    def begin(self, host):
        """The operation is about to start."""

    def died(self, host):
        """The process is dead and not started again yet."""

    def back(self, host):
        """The process listens again; the engine did not call yet."""

    def end(self, host):
        """The engine has gone on as far as it could; also called when the process did not die."""


class _VsdHurts(Fault):
    """The first request of each writing method is hurt."""

    during = True

    def __init__(self, action):
        self._action = action

    def begin(self, host):
        for method in ("POST", "PUT", "DELETE"):
            host.simulator.admin(
                "POST",
                "/faults",
                {"method": method, "path": "", "action": self._action, "count": 1},
            )

    def end(self, host):
        host.simulator.admin("DELETE", "/faults")


class _VsdAway(Fault):
    """Nobody listens where the VSD was: its address is the host's own for that time."""

    def died(self, host):
        host.ip("address", "add", f"{VSD_ADDRESS}/32", "dev", "lo")

    def end(self, host):
        host.ip("address", "flush", "dev", "lo", "to", f"{VSD_ADDRESS}/32")


class _OvsdbAway(Fault):
    def died(self, host):
        host.ovsdb.stop()

    def end(self, host):
        if host.ovsdb.process.poll() is not None:
            host.ovsdb.start()


class _OvsdbRestarted(Fault):
    def back(self, host):
        host.ovsdb.stop()
        host.ovsdb.start()


class _ApiAway(Fault):
    def died(self, host):
        host.api.stop()

    def end(self, host):
        if not host.api.is_listening:
            host.api.start()


class _ApiHangs(Fault):
    def died(self, host):
        host.api.hang = True

    def end(self, host):
        host.api.hang = False


class _Together(Fault):
    def __init__(self, *faults):
        self._faults = faults
        self.during = any(fault.during for fault in faults)

    def begin(self, host):
        for fault in self._faults:
            fault.begin(host)

    def died(self, host):
        for fault in self._faults:
            fault.died(host)

    def back(self, host):
        for fault in self._faults:
            fault.back(host)

    def end(self, host):
        for fault in self._faults:
            fault.end(host)


FAULTS = {
    "none": Fault(),
    "vsd-503": _VsdHurts("503"),
    "vsd-lost-reply": _VsdHurts("reset_after"),
    "vsd-away": _VsdAway(),
    "ovsdb-away": _OvsdbAway(),
    "ovsdb-restarted": _OvsdbRestarted(),
    "api-away": _ApiAway(),
    "api-hangs": _ApiHangs(),
    "vsd-lost-reply+ovsdb-away": _Together(_VsdHurts("reset_after"), _OvsdbAway()),
    "all-away": _Together(_VsdAway(), _OvsdbAway(), _ApiAway()),
}
# A fault that the operation sees has the effects of the one named here.
SEEN_AS = {
    name: name.partition("+")[0] if fault.during else "none" for name, fault in FAULTS.items()
}
