"""Docker hosts beside a VSD simulator: each a network namespace with a VRS, an engine's API and an
appliance.

Real processes and real wires. A host has a namespace of its own, so that two of them do not see
each other's devices.
"""

import contextlib
import ctypes
import itertools
import os
import subprocess
import threading
import time

from tests.support import ovsdb as ovsdb_support
from tests.support.appliance import PATIENCE_S, Appliance
from tests.support.scripted_engine import FakeApi, ScriptedEngine
from tests.support.vsd import VsdSimulator
from tests.support.waiting import wait_for

_CLONE_NEWNET = 0x40000000
VSD_ADDRESS = "192.0.2.1"
_NUMBERS = itertools.count(1)


class Namespace:
    """A network namespace from which the simulator can be reached and nothing else."""

    def __init__(self):
        self._number = next(_NUMBERS)
        self._library = ctypes.CDLL(None, use_errno=True)
        self._fd = self._in_thread(self._make)
        here, path = f"vsd{self._number}", f"/proc/{os.getpid()}/fd/{self._fd}"
        net = f"169.254.{self._number // 64}.{self._number % 64 * 4}"
        first, second = (
            f"{net.rpartition('.')[0]}.{int(net.rpartition('.')[2]) + offset}" for offset in (1, 2)
        )
        macs = [f"02:00:5e:00:{side:02x}:{self._number % 256:02x}" for side in (1, 2)]
        # Fixed MACs and neighbours: nothing of this depends on ARP's timing.
        for command in (
            (
                f"link add {here} address {macs[0]} type veth peer name vsd address {macs[1]} "
                f"netns {path}"
            ),
            f"addr add {first}/30 dev {here}",
            f"link set {here} up",
            f"neigh replace {second} lladdr {macs[1]} dev {here} nud permanent",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        for command in (
            "link set lo up",
            f"addr add {second}/30 dev vsd",
            "link set vsd up",
            f"route add {VSD_ADDRESS} via {first}",
            f"neigh replace {first} lladdr {macs[0]} dev vsd nud permanent",
        ):
            self.run(subprocess.run, ["ip", *command.split()], check=True)
        # On a busy machine the kernel may take seconds to let packets through a new pair.
        deadline = time.monotonic() + PATIENCE_S
        while (
            " state UP "
            not in subprocess.run(
                ["ip", "-o", "link", "show", here], capture_output=True, text=True, check=True
            ).stdout
        ):
            assert time.monotonic() < deadline, f"{here} does not come up"
            time.sleep(0.02)

    def _make(self):
        assert self._library.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def _enter(self, work, arguments, named):
        assert self._library.setns(self._fd, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        return work(*arguments, **named)

    @staticmethod
    def _in_thread(work, *arguments):
        """A namespace belongs to a thread, and a child process inherits its parent thread's."""
        result = []

        def body():
            try:
                result.append((work(*arguments), None))
            except BaseException as error:
                result.append((None, error))

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def run(self, work, *arguments, **named):
        """Call `work` inside of the namespace."""
        return self._in_thread(self._enter, work, arguments, named)

    def close(self):
        """Let the kernel remove the namespace; the simulator's side of its link goes with it."""
        subprocess.run(["ip", "link", "del", f"vsd{self._number}"], capture_output=True)
        os.close(self._fd)


class Host:
    """One docker host. `engine` makes the calls, `api` is what the appliance sees of the engine."""

    def __init__(
        self,
        simulator,
        name="host-1",
        *,
        api_version="1.41",
        wait=True,
        module="nuage_appliance",
        environment=None,
        **settings,
    ):
        """`module` is what Python runs as the appliance, with `environment`; a setting of None is
        left out of the configuration.
        """
        self.simulator, self.name, self._client = simulator, name, None
        self.namespace = Namespace()
        self.ovsdb = ovsdb_support.Ovsdb()
        self.api = FakeApi(str(self.ovsdb.directory / "docker.sock"), api_version)
        namespace = self.namespace

        class Inside(Appliance):
            def start(self, wait=True):
                namespace.run(super().start, wait)

        settings = {"hostid": name, "auditinterval": 3600, "cafile": simulator.ca_file, **settings}
        self.appliance = Inside(
            settings.pop("url", simulator.url),
            self.ovsdb.socket,
            self.api.path,
            module=module,
            environment=environment,
            **{key: value for key, value in settings.items() if value is not None},
        )
        self.engine = ScriptedEngine(self.appliance.plugins, self.api)
        if wait:
            try:
                self.appliance.wait_ready()
            except BaseException:
                self.close()
                raise

    def restart(self, wait=True):
        """`kill -9` and start again, as systemd would."""
        if self.appliance.process.poll() is None:
            self.appliance.kill()
        self.appliance.start()
        self.engine.network.disconnect()
        self.engine.ipam.disconnect()
        if wait:
            self.appliance.wait_ready()

    def links(self):
        """The bridge sides of the veth pairs of this host."""
        done = self.namespace.run(
            subprocess.run,
            ["ip", "-o", "link", "show", "type", "veth"],
            capture_output=True,
            text=True,
            check=True,
        )
        names = (line.split(":")[1].strip().split("@")[0] for line in done.stdout.splitlines())
        return sorted(name for name in names if name.startswith("nln") and name.endswith("-1"))

    def has_link(self, name):
        """True when a device is in this host's namespace."""
        return (
            self.namespace.run(
                subprocess.run, ["ip", "link", "show", name], capture_output=True
            ).returncode
            == 0
        )

    def ip(self, *words):
        """Run `ip` in this host's namespace."""
        self.namespace.run(subprocess.run, ["ip", *words], check=True)

    def containers(self):
        """The VSD containers that bear this host's id."""
        for _ in range(2):
            if self._client is None:
                self._client = self.simulator.client()
                self._client.me()
            status, _, body = self._client.get(
                "/containers", filter=f'externalID == "{self.name}"', page=0, page_size=500
            )
            if status == 200:
                return body or []
            self._client.close()
            self._client = None  # the simulator was reset: the API key is no longer known
        raise AssertionError(f"GET /containers: {status} {body}")

    def addresses(self):
        """The addresses of these containers, sorted."""
        return sorted(one["interfaces"][0]["IPAddress"] for one in self.containers())

    def state(self):
        """Everything that a call may change, as the backends have it."""
        status = self.appliance.status()
        selects = [
            {"op": "select", "table": table, "where": [], "columns": [column]}
            for table, column in (
                ("Nuage_Port_Table", "name"),
                ("Nuage_VM_Table", "vm_uuid"),
                ("Bridge", "external_ids"),
            )
        ]
        ports, machines, tags = (
            sorted(value for row in result["rows"] for value in row.values())
            for result in self.ovsdb.transact(*selects)
        )
        return {
            "containers": sorted(
                (one["ID"], one["UUID"], one["name"]) for one in self.containers()
            ),
            "ports": ports,
            "machines": machines,
            "tags": tags,
            "links": self.links(),
            "networks": status["networks"],
            "states": status["components"]["endpoints"]["states"],
            "pending_release": status["components"]["endpoints"]["pending_release"],
        }

    def leftovers(self):
        """What is there that should not be when the engine has no network and no container of ours;
        empty when clean.
        """
        return {
            key: value for key, value in self.state().items() if value and value != [["map", []]]
        }

    def wait_clean(self, seconds=PATIENCE_S):
        """Wait until nothing is left anywhere."""
        wait_for(
            lambda: not self.leftovers(),
            seconds,
            lambda: (
                f"left behind: {self.leftovers()}; the log ends:\n{self.appliance.errors()[-3000:]}"
            ),
        )

    def wait_attached(self, *endpoints, seconds=PATIENCE_S):
        """Wait until these endpoints of the engine have their port in the VRS, bound to their
        container.
        """
        wanted = {endpoint["entity_port"].replace("-2", "-1") for endpoint in endpoints}
        self.appliance.wait_until(
            lambda: wanted <= set(self.ovsdb.names("Nuage_Port_Table")),
            seconds,
            f"the ports {wanted}",
        )
        self.appliance.wait_until(
            lambda: (
                self.appliance.status()["components"]["endpoints"]["states"].get("plugged", 0)
                >= len(wanted)
            ),
            what="that the appliance has noted them",
        )

    def wait_detached(self, *endpoints, seconds=PATIENCE_S):
        """Wait until these endpoints' ports are gone from the VRS."""
        gone = {endpoint["entity_port"].replace("-2", "-1") for endpoint in endpoints}
        self.appliance.wait_until(
            lambda: not gone & set(self.ovsdb.names("Nuage_Port_Table")),
            seconds,
            f"the end of the ports {gone}",
        )

    def check_log(self):
        """A bug of ours would have been logged with its stack."""
        text = self.appliance.log() + self.appliance.errors()
        for words in ("Traceback", "internal error"):
            place = text.find(words)
            assert place < 0, (
                f"the appliance's log says:\n{text[max(0, place - 1000) : place + 3000]}"
            )

    def scrub(self):
        """By force: make everything clean, whatever a failed test left."""
        if self.appliance.process.poll() is None:
            self.appliance.kill()
        self.api.networks.clear()
        self.api.containers.clear()
        self.engine.pools.clear()
        delete_containers(self.simulator, [self.name])
        for name in self.links():
            self.ip("link", "del", name)
        bridge_port = next(
            row["_uuid"]
            for row in self.ovsdb.rows("Port", "_uuid", "name")
            if row["name"] == "alubr0"
        )
        self.ovsdb.transact(
            {"op": "delete", "table": "Nuage_Port_Table", "where": []},
            {"op": "delete", "table": "Nuage_VM_Table", "where": []},
            {
                "op": "update",
                "table": "Bridge",
                "where": [],
                "row": {"external_ids": ["map", []], "ports": bridge_port},
            },
        )
        self.restart()

    def begin(self):
        """A clean beginning for a test, even after one that failed."""
        self.api.hang = False
        self.simulator.admin("DELETE", "/faults")
        try:
            self.wait_clean(2)
        except (AssertionError, OSError):
            self.scrub()

    def tear_down(self):
        """Let the engine take away whatever a test left, so that the next one begins
        with nothing.
        """
        engine = self.engine
        self.api.hang = False
        for network_id, network in list(self.api.networks.items()):
            for container_id in list(network["Containers"]):
                entry = network["Containers"].pop(container_id)
                self.api.containers.pop(container_id, None)
                engine.teardown(
                    {
                        "network_id": network_id,
                        "endpoint_id": entry["EndpointID"],
                        "gateway": "",
                        "address": entry["IPv4Address"],
                    }
                )
        for network_id in list(engine.pools):
            # The appliance of a cluster may be removing it, too.
            with contextlib.suppress(KeyError):
                engine.network_rm(network_id)
        self.api.containers.clear()

    def close(self):
        """End everything."""
        self.appliance.close()
        self.api.stop()
        self.ovsdb.close()
        self.namespace.close()


def start_simulator(*flags):
    """A simulator that every host's namespace can reach."""
    subprocess.run(["ip", "addr", "replace", f"{VSD_ADDRESS}/32", "dev", "lo"], check=True)
    return VsdSimulator("--listen", f"{VSD_ADDRESS}:0", *flags)


def delete_containers(simulator, external_ids):
    """Delete every VSD container that bears one of these external ids."""
    client = simulator.client()
    client.me()
    for external_id in external_ids:
        for one in (
            client.get(
                "/containers", filter=f'externalID == "{external_id}"', page=0, page_size=500
            )[2]
            or []
        ):
            client.delete(f"/containers/{one['ID']}?responseChoice=1")
    client.close()
