"""A real ovsdb-server with the Nuage tables, private to one test."""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

STOCK_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_TABLES = Path(__file__).resolve().parents[2] / "nuage_lab" / "vrs" / "nuage_tables.json"
SYSTEM_ID = "4c4c4544-0042-3510-8052-b4c04f565231"


def is_available():
    """True when ovsdb-server can be started here."""
    return bool(
        shutil.which("ovsdb-server") and shutil.which("ovsdb-tool") and STOCK_SCHEMA.exists()
    )


class Ovsdb:
    """The server, its socket, and transactions of the test's own."""

    def __init__(
        self,
        *,
        with_bridge=True,
        with_nuage_tables=True,
        external_ids=None,
        datapath_type="",
        strict=False,
    ):
        self.directory = Path(tempfile.mkdtemp(prefix="ovsdb-"))
        self.socket = str(self.directory / "db.sock")
        schema = json.loads(STOCK_SCHEMA.read_text())
        if with_nuage_tables:
            tables = json.loads(_TABLES.read_text())
            if strict:
                tables["Nuage_Port_Table"]["indexes"] = [["name"]]
                tables["Nuage_VM_Table"]["indexes"] = [["vm_uuid"]]
            schema["tables"].update(tables)
        schema.pop("cksum", None)
        (self.directory / "schema").write_text(json.dumps(schema))
        self._create()
        self.process = None
        self.start()
        operations = [
            {
                "op": "insert",
                "table": "Open_vSwitch",
                "row": {
                    "external_ids": [
                        "map",
                        sorted((external_ids or {"system-id": SYSTEM_ID}).items()),
                    ]
                },
            }
        ]
        if with_bridge:
            operations = self.bridge_operations(datapath_type) + operations
            operations[-1]["row"]["bridges"] = ["named-uuid", "b0"]
        self.transact(*operations)

    @staticmethod
    def bridge_operations(datapath_type="", name="alubr0"):
        """What inserts a bridge with the uuid-name b0."""
        return [
            {
                "op": "insert",
                "table": "Interface",
                "uuid-name": "i0",
                "row": {"name": name, "type": "internal"},
            },
            {
                "op": "insert",
                "table": "Port",
                "uuid-name": "p0",
                "row": {"name": name, "interfaces": ["named-uuid", "i0"]},
            },
            {
                "op": "insert",
                "table": "Bridge",
                "uuid-name": "b0",
                "row": {
                    "name": name,
                    "fail_mode": "secure",
                    "datapath_type": datapath_type,
                    "ports": ["named-uuid", "p0"],
                },
            },
        ]

    def _create(self):
        subprocess.run(
            ["ovsdb-tool", "create", str(self.directory / "db"), str(self.directory / "schema")],
            check=True,
        )

    def start(self):
        """Start the server on the present database; returns when it answers."""
        self.process = subprocess.Popen(
            [
                "ovsdb-server",
                str(self.directory / "db"),
                f"--remote=punix:{self.socket}",
                "--no-chdir",
                f"--unixctl={self.directory / 'ctl'}",
                f"--log-file={self.directory / 'log'}",
                "-vconsole:off",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            done = subprocess.run(
                ["ovsdb-client", "--timeout=10", "list-dbs", f"unix:{self.socket}"],
                capture_output=True,
            )
            if done.returncode == 0:
                return
            assert self.process.poll() is None and time.monotonic() < deadline, (
                f"ovsdb-server did not start: {done.stderr!r}"
            )
            time.sleep(0.02)

    def stop(self):
        """End the server; the database stays."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def wipe(self):
        """Replace the database by an empty one, as an operator's accident would; the server must be
        stopped.
        """
        (self.directory / "db").unlink()
        self._create()

    def close(self):
        """End the server and remove everything."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def transact(self, *operations):
        """One transaction; asserts that it was carried out, and returns the results."""
        done = subprocess.run(
            [
                "ovsdb-client",
                "--timeout=60",
                "transact",
                f"unix:{self.socket}",
                json.dumps(["Open_vSwitch", *operations]),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        results = json.loads(done.stdout)
        assert not any(isinstance(result, dict) and result.get("error") for result in results), (
            results
        )
        return results

    def rows(self, table, *columns):
        """The rows of a table, as dictionaries in which maps are dictionaries and sets
        are lists.
        """
        operation = {"op": "select", "table": table, "where": []}
        if columns:
            operation["columns"] = list(columns)
        return [
            {key: _plain(value) for key, value in row.items()}
            for row in self.transact(operation)[0]["rows"]
        ]

    def names(self, table):
        """The `name` column of a table, sorted."""
        return sorted(row["name"] for row in self.rows(table, "name"))


def _plain(value):
    if isinstance(value, list) and len(value) == 2 and value[0] == "map":
        return dict(value[1])
    if isinstance(value, list) and len(value) == 2 and value[0] == "set":
        return value[1]
    return value
