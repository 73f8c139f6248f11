"""What the engine, systemd or an operator makes the appliance do, as far as a death in the middle
of it matters.

Each operation is prepared, acted, and undone. `act` raises PluginError when the user is told that
it failed; then the user acts again. `is_settled` tells that everything came about that follows
without further calls.
"""

import shutil
import signal
from typing import ClassVar

from tests.support.scripted_engine import OPTIONS

_ADDRESS, _MAC, _GROUP = "10.21.59.77", "02:42:0a:15:3b:4d", "Web"
_DOOMED_LINK = ("nlnfff0-1", "nlnfff0-2")
_MAC_REFUSED = {
    "method": "PUT",
    "path": "/containerinterfaces/",
    "action": "409",
    "code": 7036,
    "count": 0,
}


class Operation:
    """One operation on one site."""

    def __init__(self, site):
        self.site, self.host, self.engine = site, site.host, site.engine

    def prepare(self):
        """Bring about what must be there before."""

    def act(self):
        """Do it."""

    def is_settled(self):
        """True when nothing that follows is still to come."""
        return True

    def check(self):
        """Fail unless what was asked for, beyond what must always agree, is there."""

    def undo(self):
        """Remove what it made; may be repeated."""

    def _is_plugged(self, endpoint):
        port = endpoint["entity_port"].replace("-2", "-1")
        return port in self.host.ovsdb.names("Nuage_Port_Table") and self.host.appliance.status()[
            "components"
        ]["endpoints"]["states"] == {"plugged": len(self.host.containers())}

    def _is_gone(self, endpoint):
        return endpoint["entity_port"].replace("-2", "-1") not in self.host.links()

    def _stop(self, name):
        """Stop a container that may never have come about."""
        endpoint = getattr(self, name, None)
        if endpoint is not None:
            setattr(self, name, None)
            self.engine.stop(endpoint)

    def _remove(self, network_id):
        if network_id in self.engine.pools:
            self.engine.network_rm(network_id)


class NetworkCreate(Operation):
    network_id = None

    def act(self):
        self.network_id = self.engine.network_create("extra", {**OPTIONS, "subnet": "Subnet 1"})

    def is_settled(self):
        return any(
            key == f"nuage-network-{self.network_id}"
            for row in self.host.ovsdb.rows("Bridge", "external_ids")
            for key in row["external_ids"]
        )

    def undo(self):
        self._remove(self.network_id)


class NetworkRemove(NetworkCreate):
    def prepare(self):
        super().act()

    def act(self):
        self._remove(self.network_id)

    def is_settled(self):
        return not super().is_settled()

    def undo(self):
        super().act()  # what was removed can be created again
        super().undo()


class Run(Operation):
    endpoint, options = None, {}

    def act(self):
        self.endpoint = self.engine.run("web", self.site.home, **self.options)

    def is_settled(self):
        return self._is_plugged(self.endpoint)

    def undo(self):
        self._stop("endpoint")


class RunWithAddress(Run):
    options: ClassVar = {"ip": _ADDRESS}

    def check(self):
        assert self.endpoint["address"].split("/")[0] == _ADDRESS


class RunWithMac(Run):
    options: ClassVar = {"mac": _MAC}

    def check(self):
        assert _MAC in [one["interfaces"][0]["MAC"].lower() for one in self.host.containers()]


class RunWithMacReplaced(RunWithMac):
    """A VSD that changes no MAC: the container is deleted and created anew."""

    def prepare(self):
        self.host.simulator.admin("POST", "/faults", _MAC_REFUSED)

    def undo(self):
        self.host.simulator.admin("DELETE", "/faults")
        super().undo()


class RunWithGroup(Run):
    options: ClassVar = {"env": [f"NUAGE-POLICY-GROUP={_GROUP}"]}

    def check(self):
        client = self.host.simulator.client()
        client.me()
        (container,) = client.get(
            "/containers", filter=f'UUID == "{self.endpoint["container_id"]}"'
        )[2]
        groups = (
            client.get(f"/vports/{container['interfaces'][0]['VPortID']}/policygroups")[2] or []
        )
        client.close()
        assert [group["name"] for group in groups] == [_GROUP]


class Connect(Run):
    """`docker network connect` of a running container to a second network."""

    second = None

    def prepare(self):
        self.network_id = self.engine.network_create(
            "second", {**OPTIONS, "zone": "Zone 2", "subnet": "Subnet 3"}
        )
        super().act()
        self.site.wait_until(super().is_settled, "the first network")

    def act(self):
        second = self.engine.setup(self.network_id)
        second.update(container_id=self.endpoint["container_id"], name="web")
        self.engine.publish(second)
        self.second = second

    def is_settled(self):
        return self._is_plugged(self.second)

    def undo(self):
        self._stop("second")
        super().undo()
        self._remove(self.network_id)


class Stop(Run):
    def prepare(self):
        super().act()
        self.site.wait_until(super().is_settled, "the container")

    def act(self):
        self.engine.stop(self.endpoint)

    def is_settled(self):
        return self._is_gone(self.endpoint)

    def undo(self):
        """There is nothing left."""


class Disconnect(Connect):
    """`docker network disconnect` of the second network."""

    def prepare(self):
        super().prepare()
        super().act()
        self.site.wait_until(super().is_settled, "the second network")

    def act(self):
        self.engine.stop(self.second)

    def is_settled(self):
        return self._is_gone(self.second)

    def undo(self):
        self.second = None
        super().undo()


class Rename(Stop):
    def act(self):
        container_id = self.endpoint["container_id"]
        self.host.api.containers[container_id]["Name"] = "/renamed"
        self.host.api.networks[self.site.home]["Containers"][container_id]["Name"] = "renamed"
        self.host.api.emit(
            "container", "rename", container_id, {"name": "renamed", "oldName": "/web"}
        )

    def is_settled(self):
        return "renamed" in [
            row["vm_name"] for row in self.host.ovsdb.rows("Nuage_VM_Table", "vm_name")
        ]

    def undo(self):
        self._stop("endpoint")


class ReleaseOnly(Stop):
    """The engine crashed: it calls nothing but ReleaseAddress (libnetwork §4.7)."""

    def act(self):
        del self.host.api.containers[self.endpoint["container_id"]]
        del self.host.api.networks[self.site.home]["Containers"][self.endpoint["container_id"]]
        self.engine.ipam.call(
            "IpamDriver.ReleaseAddress",
            {
                "PoolID": self.engine.pools[self.site.home][0],
                "Address": self.endpoint["address"].split("/")[0],
            },
        )


class Start(Run):
    """A first start beside a running container, one that is not plugged yet, and a link to be
    deleted.
    """

    late = None

    def prepare(self):
        super().act()
        self.site.wait_until(super().is_settled, "the container")
        self.host.api.hang = True
        self.late = self.engine.run("late", self.site.home)
        self.host.appliance.kill()
        self.host.api.hang = False
        self.host.ip(
            "link", "add", _DOOMED_LINK[0], "type", "veth", "peer", "name", _DOOMED_LINK[1]
        )
        self.host.ip("link", "set", _DOOMED_LINK[0], "alias", "nuage1|deleted")
        shutil.rmtree(self.host.appliance.settings["statedir"])

    def act(self):
        self.host.appliance.start(wait=False)

    def is_settled(self):
        return (
            all(self.host.appliance.listens(path) for path in self.host.appliance.sockets)
            and self._is_plugged(self.late)
            and _DOOMED_LINK[0] not in self.host.links()
        )

    def undo(self):
        self._stop("late")
        super().undo()


class Terminate(Operation):
    """`systemctl stop`."""

    def act(self):
        self.host.appliance.kill(signal.SIGTERM)


class Reload(Operation):
    """The operator deletes the pinned certificate and lets the configuration be read again."""

    def prepare(self):
        self._pins.unlink()
        self.host.appliance.write(
            numofretries=11 - self.host.appliance.settings.get("numofretries", 5)
        )

    @property
    def _pins(self):
        return self.host.appliance.directory / "state" / "vsd-certificate.json"

    def act(self):
        self.host.appliance.process.send_signal(signal.SIGHUP)

    def is_settled(self):
        return self._pins.exists()


OPERATIONS = {
    "network-create": NetworkCreate,
    "network-rm": NetworkRemove,
    "run": Run,
    "run-ip": RunWithAddress,
    "run-mac": RunWithMac,
    "run-mac-replaced": RunWithMacReplaced,
    "run-group": RunWithGroup,
    "connect": Connect,
    "disconnect": Disconnect,
    "stop": Stop,
    "release": ReleaseOnly,
    "rename": Rename,
    "start": Start,
    "sigterm": Terminate,
    "sighup": Reload,
}
