"""One docker host whose appliance can be made to die, beside things that no death may touch; and
what must agree afterwards.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.faults.agreement import disagreement
from tests.faults.backends import FAULTS
from tests.faults.patient_engine import PatientEngine
from tests.support.appliance import PATIENCE_S, encode
from tests.support.host import Host, delete_containers
from tests.support.ovsdb import SYSTEM_ID
from tests.support.scripted_engine import PluginError
from tests.support.waiting import wait_for

HOME = "10.21.59.0/24"
_FOREIGN = "another-host"
_DEATH_S = _AGREEMENT_S = _AGAIN_S = PATIENCE_S


class Site:
    """A host with a witness, that is a container which runs all the time, and with rows and a VSD
    container of somebody else.
    """

    def __init__(self, simulator):
        self._directory = Path(tempfile.mkdtemp(prefix="faults-"))
        self._order, self._record = self._directory / "order", self._directory / "effects"
        self._record.touch()
        self._serial = self._deaths = self._log_offset = 0
        self.is_well = True
        self.fault = FAULTS["none"]
        name = f"{socket.gethostname()}-{SYSTEM_ID}"
        delete_containers(simulator, [name, _FOREIGN])
        simulator.admin("DELETE", "/faults")
        # Neither hostid nor cafile: the host's id and the pinned certificate are files that the
        # appliance writes.
        self.host = Host(
            simulator,
            name,
            module="tests.faults.dying",
            hostid=None,
            cafile=None,
            timeinterval=20,
            requesttimeout=2,
            environment={"NUAGE_DIE": str(self._order), "NUAGE_EFFECTS": str(self._record)},
        )
        self.engine = self.host.engine = PatientEngine(
            self.host.appliance.plugins, self.host.api, self._revive
        )
        try:
            self._furnish()
        except BaseException:
            self.close()
            raise

    def _furnish(self):
        self.home = self.engine.network_create("home", subnet=HOME)
        self.witness = self.engine.run("witness", self.home)
        self.host.wait_attached(self.witness)
        self._make_foreign_things()
        self._untouched = self._photo()

    def close(self):
        """End everything."""
        self.fault.end(self.host)
        self.host.close()
        delete_containers(self.host.simulator, [self.host.name, _FOREIGN])
        shutil.rmtree(self._directory, ignore_errors=True)

    # -- what no death may touch ------------------------------------------------------------------

    def _make_foreign_things(self):
        client = self.host.simulator.client()
        client.me()
        self._secrets = [
            encode("csproot"),
            encode("csproot:csproot"),
            client.secret,
            encode(f"csproot:{client.secret}"),
        ]
        subnet = client.get(f"/containers/{self.host.containers()[0]['ID']}/containerinterfaces")[
            2
        ][0]["attachedNetworkID"]
        status, _, body = client.post(
            "/containers",
            {
                "UUID": "f" * 64,
                "name": "foreign",
                "externalID": _FOREIGN,
                "computeProvisioned": False,
                "interfaces": [
                    {"name": "nln1-1", "MAC": "02:00:00:00:00:01", "attachedNetworkID": subnet}
                ],
            },
        )
        assert status == 201, body
        client.close()
        port = "foreign0"
        self.host.ovsdb.transact(
            {"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": port}},
            {
                "op": "insert",
                "table": "Port",
                "uuid-name": "p",
                "row": {"name": port, "interfaces": ["named-uuid", "i"]},
            },
            {
                "op": "mutate",
                "table": "Bridge",
                "where": [["name", "==", "alubr0"]],
                "mutations": [
                    ["ports", "insert", ["named-uuid", "p"]],
                    ["external_ids", "insert", ["map", [["foreign", "key"]]]],
                ],
            },
            {
                "op": "insert",
                "table": "Nuage_Port_Table",
                "row": {"name": port, "mac": "02:00:00:00:00:02", "bridge": "alubr0"},
            },
            {
                "op": "insert",
                "table": "Nuage_VM_Table",
                "row": {"vm_uuid": "foreign", "vm_name": "foreign", "ports": port},
            },
        )

    def _photo(self):
        """The witness and the foreign things as every backend has them. A row or link made anew
        has another number.
        """
        mine = self.witness["entity_port"].replace("-2", "-1")
        client = self.host.simulator.client()
        client.me()
        containers = [
            client.get("/containers", filter=f'UUID == "{uuid}"')[2]
            for uuid in (self.witness["container_id"], "f" * 64)
        ]
        client.close()
        tables = self.host.ovsdb.transact(
            *(
                {
                    "op": "select",
                    "table": table,
                    "where": [[column, function, value]],
                    "columns": ["_uuid", *columns],
                }
                for table, column, function, columns, values in (
                    ("Port", "name", "==", ["name", "interfaces"], (mine, "foreign0")),
                    ("Interface", "name", "==", ["name", "external_ids"], (mine, "foreign0")),
                    (
                        "Nuage_Port_Table",
                        "name",
                        "==",
                        ["name", "mac", "bridge", "vm_domain"],
                        (mine, "foreign0"),
                    ),
                    (
                        "Nuage_VM_Table",
                        "ports",
                        "includes",
                        ["vm_uuid", "vm_name", "ports"],
                        (mine, "foreign0"),
                    ),
                )
                for value in values
            )
        )
        link = self.host.namespace.run(
            subprocess.run, ["ip", "-o", "link", "show", mine], capture_output=True, text=True
        ).stdout.split(":")[0]
        return {"containers": containers, "rows": [table["rows"] for table in tables], "link": link}

    def check_untouched(self):
        """Fail unless the witness and the foreign things are what and where they were."""
        now = self._photo()
        before = self._untouched
        touched = [(key, before[key], now[key]) for key in now if now[key] != before[key]]
        assert now == before, f"touched: {touched}"

    # -- life and death ---------------------------------------------------------------------------

    def arm(self, place, fault):
        """From now on count effects; die at `place`, such as `before:vsd.POST.containers.1`, with a
        fault around it.
        """
        self._serial += 1
        self._deaths, self.fault = 0, fault
        self._recorded = self._record.stat().st_size
        self._log_offset = self._log_size()
        fresh = self._order.with_suffix(".new")
        fresh.write_text(f"{place} {self._serial}")
        fresh.rename(self._order)

    def effects(self):
        """The effects since arm(), numbered and sorted: their order may differ where greenlets do
        them at the same time.
        """
        with self._record.open() as file:
            file.seek(self._recorded)
            names = file.read().split()
        return sorted(
            f"{name}.{number}" for name in set(names) for number in range(1, names.count(name) + 1)
        )

    def _revive(self):
        """The process died: start it again as systemd would, with the backends as the fault has
        them.
        """
        appliance = self.host.appliance
        try:
            status = appliance.process.wait(_DEATH_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                "the connection broke, but the appliance lives; its log ends:\n"
                f"{self._log()[-3000:]}"
            ) from None
        assert status == -signal.SIGKILL, (
            f"the appliance ended with {status}; its log ends:\n{self._log()[-3000:]}"
        )
        self._order.unlink()
        self._deaths += 1
        self.fault.died(self.host)
        appliance.start()
        self.fault.back(self.host)

    def wait_for_death(self):
        """What dies after the engine was answered dies soon; fails when the place was never
        reached.
        """
        if self._deaths == 0:
            try:
                self.host.appliance.process.wait(_DEATH_S)
            except subprocess.TimeoutExpired:
                raise AssertionError(
                    f"{self._order.read_text().split()[0]} was not reached; there were "
                    f"{self.effects()}"
                ) from None
            self._revive()
        assert self._deaths == 1

    def disarm(self):
        """Nothing shall die any more, the backends are well; the process runs, also when an
        operation ended it.
        """
        self._order.unlink(missing_ok=True)
        self.fault.end(self.host)
        self.fault = FAULTS["none"]
        if self.host.appliance.process.poll() is not None:
            self.host.appliance.start()
        self.host.appliance.wait_ready()

    def wait_until(self, condition, what, seconds=_DEATH_S):
        """Wait until a condition holds, or the process is dead."""
        wait_for(
            lambda: self.host.appliance.process.poll() is not None or condition(),
            seconds,
            lambda: f"{what} did not come; the log ends:\n{self._log()[-3000:]}",
        )

    def until_it_works(self, work):
        """Let the user try until it works: while the appliance still waits for its turn with the
        VSD, it says so.
        """
        deadline = time.monotonic() + _AGAIN_S
        while True:
            try:
                return work()
            except PluginError as error:
                assert time.monotonic() < deadline, f"it still does not work: {error}"
                time.sleep(0.1)

    # -- agreement --------------------------------------------------------------------------------

    def audit(self):
        """One cycle of the audit; returns what it found and did."""
        return self.host.appliance.ask("POST", "/audit")

    def settle(self):
        """Audit until it finds nothing and everything agrees; fails with what does not."""
        deadline = time.monotonic() + _AGREEMENT_S
        while True:
            outcome = self.audit()
            problem = disagreement(self.host)
            if problem is None and outcome["is_complete"] and not outcome["found"]:
                break
            assert time.monotonic() < deadline, (
                f"{problem or 'the audit still finds something'}; {outcome}\nthe log ends:\n"
                f"{self._log()[-3000:]}"
            )
            time.sleep(0.05)
        self.check_untouched()

    def check_log(self):
        """No bug of ours and no secret since arm()."""
        text = self._log(self._log_offset)
        assert "Traceback" not in text and "internal error" not in text, text[-4000:]
        assert not [secret for secret in self._secrets if secret in text], "a secret is in the log"

    def _log_size(self):
        return (self.host.appliance.directory / "stderr.log").stat().st_size

    def _log(self, offset=None):
        with (self.host.appliance.directory / "stderr.log").open("rb") as file:
            file.seek(self._log_offset if offset is None else offset)
            return file.read().decode(errors="replace")

    @contextlib.contextmanager
    def operation(self, kind):
        """An operation, prepared, and undone afterwards: then everything must agree again without
        it.
        """
        self.is_well = False
        work = kind(self)
        work.prepare()
        yield work
        self.until_it_works(work.undo)
        self.settle()
        self.check_log()
        self.is_well = True
