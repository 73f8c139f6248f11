"""A simulator that keeps its objects: what a client was told outlives a kill at any moment, and no
bad file is taken for a good one.
"""

import itertools
import json
import os
import random
import shutil
import subprocess
import threading
import time
import uuid
import zlib
from pathlib import Path

import gevent
import pytest
import requests

from nuage_lab.vsd import seed
from nuage_lab.vsd.auth import SYSTEM
from nuage_lab.vsd.keeper import Keeper
from nuage_lab.vsd.model import load_model
from nuage_lab.vsd.settings import Settings
from nuage_lab.vsd.simulator import Simulator
from nuage_lab.vsd.state_file import StateFile
from tests.support.vsd import VsdSimulator, refuses_to_start

KILLS = 6
MODEL = load_model()


def container(subnet_id, number):
    """A body for POST /containers."""
    return {
        "UUID": uuid.uuid4().hex * 2,
        "name": f"box-{number}",
        "externalID": "host",
        "interfaces": [
            {
                "name": f"port-{number}",
                "MAC": f"7a:42:00:00:{number >> 8:02x}:{number & 255:02x}",
                "attachedNetworkID": subnet_id,
            }
        ],
    }


def create(client, subnet_id, number):
    """Create a container; returns VSD's object."""
    status, _, body = client.post("/containers", container(subnet_id, number))
    assert status == 201, body
    return body[0]


def logged_in(simulator):
    """A client with a key, and the ID of a large subnet."""
    client = simulator.client()
    client.me()
    return client, client.get("/subnets", filter='name == "Big"')[2][0]["ID"]


def all_containers(client):
    """Every container of the VSD by its ID."""
    pages = (client.get("/containers", page=page, page_size=500)[2] for page in itertools.count())
    return {one["ID"]: one for page in itertools.takewhile(bool, pages) for one in page}


@pytest.fixture()
def flags(tmp_path):
    """Options of a simulator that keeps its objects, its CA and its address in one place."""
    return "--state-dir", str(tmp_path / "vsd"), "--state", str(tmp_path / "objects.jsonl")


def test_objects_outlive_a_kill_and_keys_do_not(tmp_path):
    flags = ("--state-dir", str(tmp_path), "--keep-objects")
    with VsdSimulator(*flags) as first:
        client = first.client()
        client.me()
        subnet_id = client.get("/subnets", filter='name == "Tiny"')[2][0]["ID"]
        kept, deleted = create(client, subnet_id, 1), create(client, subnet_id, 2)
        assert client.delete(f"/containers/{deleted['ID']}?responseChoice=1")[0] == 204
        seq = first.admin("GET", "/vsc/changes")["seq"]
        old_key = client.secret
        first.process.kill()
        first.process.wait(60)
    with VsdSimulator(*flags) as second:
        client = second.client()
        client.secret = old_key
        assert client.get("/enterprises")[0] == 401
        client.secret = "csproot"
        client.me()
        found = client.get("/containers")[2]
        assert found == [kept], "every attribute is as it was"
        assert client.get(f"/subnets/{subnet_id}/containers")[2][0]["ID"] == kept["ID"]
        assert (
            create(client, subnet_id, 3)["interfaces"][0]["IPAddress"]
            != kept["interfaces"][0]["IPAddress"]
        )
        changes = second.admin("GET", f"/vsc/changes?since={seq}")
        assert not changes["lost"] and changes["changes"], "a controller goes on where it was"
        assert client.delete(f"/containers/{kept['ID']}?responseChoice=1")[0] == 204
        assert "Traceback" not in second.errors()


def test_a_process_killed_at_random_moments_loses_at_most_the_write_that_was_not_answered(flags):
    chance, numbers = random.Random(6), itertools.count(1)
    kept, unsure = {}, set()
    for _ in range(KILLS + 1):
        with VsdSimulator(*flags) as simulator:
            client, subnet_id = logged_in(simulator)
            found = all_containers(client)
            assert kept.keys() - unsure <= found.keys(), "what was answered is there"
            assert found.keys() - kept.keys() <= unsure, "and nothing else"
            assert all(found[one] == kept[one] for one in kept if one in found), (
                "each is whole and as it was answered"
            )
            addresses = [one["interfaces"][0]["IPAddress"] for one in found.values()]
            assert len(set(addresses)) == len(addresses)
            assert len(client.get(f"/subnets/{subnet_id}/vports")[2] or []) == min(len(found), 500)
            kept, unsure = dict(found), set()
            killer = threading.Timer(chance.uniform(0.02, 0.4), simulator.process.kill)
            killer.start()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                victim = chance.choice(sorted(kept)) if kept and chance.random() < 0.3 else None
                body = container(subnet_id, next(numbers))
                try:
                    if victim:
                        assert client.delete(f"/containers/{victim}?responseChoice=1")[0] == 204
                        del kept[victim]
                    else:
                        made = client.post("/containers", body)[2][0]
                        kept[made["ID"]] = made
                except requests.exceptions.RequestException:
                    unsure = {victim} if victim else {_id_of(flags[-1], body["UUID"])}
                    break
            killer.join()
            simulator.process.wait(60)
            assert unsure, "it was killed in the midst of work"
    assert kept


def _id_of(path, uuid_text):
    """The ID under which the file has a container that was not answered, or None."""
    for line in Path(path).read_bytes().split(b"\n"):
        if uuid_text.encode() in line and line.endswith(b"]"):
            return next(
                (
                    one["ID"]
                    for one in json.loads(line)[1]["put"]
                    if one["values"].get("UUID") == uuid_text
                ),
                None,
            )
    return None


class Kept:
    """An engine in this process with its state file; `reopened` is what another process would make
    of a file.
    """

    def __init__(self, path):
        self.path = path
        self.engine = Simulator(MODEL, Settings(), seed.load())
        self.keeper = Keeper(self.engine, StateFile(path))
        self.keeper.start()

    def named(self, kind, name):
        """The first object of a kind with this name."""
        return next(one for one in self.engine.store.all(kind) if one.values["name"] == name)

    def box(self, subnet, number):
        """Create a container and save."""
        made = self.engine.create(
            MODEL.by_rest_name["container"], None, container(subnet.id, number), SYSTEM
        )
        assert self.keeper.save()
        return made

    def contents(self):
        """Everything that a client can see or use, without keys."""
        return contents(self.engine)

    def reopened(self, copy):
        """The contents that a copy of the file leads to."""
        shutil.copy(self.path, copy)
        other = Kept(copy)
        other.keeper.close()
        return other.contents(), other.engine.journal.seq, other.engine.numbers.given


def contents(engine):
    """Every object of an engine with its relations."""
    return {
        (kind, one.id): (
            one.values,
            one.scopes,
            one.enterprise_id,
            one.parent and one.parent.id,
            one.secret and one.secret["password"],
        )
        for kind in MODEL.by_rest_name
        for one in engine.store.all(kind)
    }


def test_every_kind_of_change_is_written_down(tmp_path):
    kept = Kept(tmp_path / "objects.jsonl")
    engine, chance = kept.engine, random.Random(1)
    subnet, domain, enterprise = (
        kept.named("subnet", "Subnet 1"),
        kept.named("domain", "Domain"),
        kept.named("enterprise", "Enterprise"),
    )
    kinds = MODEL.by_rest_name
    boxes = []
    for number in range(60):
        box = kept.box(subnet, number)
        boxes.append(box)
        groups = [
            one.id for one in engine.store.within("policygroup", domain.id) if one.parent is domain
        ]
        vport = engine.store.get("vport", box.values["interfaces"][0]["VPortID"])
        engine.set_members(
            kinds["policygroup"],
            vport,
            chance.sample(groups, chance.randint(0, len(groups))),
            SYSTEM,
        )
        engine.update(box, {"name": f"again-{number}", "UUID": f"uuid-{number}"}, SYSTEM, True)
        if number % 3 == 0:
            engine.resyncs.create(box, SYSTEM)
        if number % 7 == 0:
            engine.create(
                kinds["containerinterface"],
                box,
                {
                    "MAC": f"7a:43:00:00:00:{number:02x}",
                    "attachedNetworkID": kept.named("subnet", "Subnet 2").id,
                },
                SYSTEM,
            )
        if number % 11 == 0:
            engine.update(
                engine.store.get("containerinterface", box.values["interfaces"][0]["ID"]),
                {"endpointID": str(number)},
                SYSTEM,
                True,
            )
        if number % 5 == 0:
            engine.delete(boxes.pop(chance.randrange(len(boxes))), SYSTEM, True)
        assert kept.keeper.save()
    user = engine.create(
        kinds["user"],
        enterprise,
        {
            "userName": "new",
            "password": "first",
            "firstName": "N",
            "lastName": "N",
            "email": "n@x.example",
        },
        SYSTEM,
    )
    engine.update(user, {"password": "second"}, SYSTEM, True)
    template = engine.create(kinds["domaintemplate"], enterprise, {"name": "T"}, SYSTEM)
    engine.create(kinds["dhcpoption"], subnet, {"actualType": 26, "actualValues": ["1400"]}, SYSTEM)
    note = engine.create(kinds["metadata"], boxes[0], {"name": "note", "blob": "x"}, SYSTEM)
    engine.update(note, {"blob": "y"}, SYSTEM, True)
    new = engine.create(
        kinds["domain"], enterprise, {"name": "New", "templateID": template.id}, SYSTEM
    )
    engine.create(kinds["zone"], new, {"name": "Gone"}, SYSTEM)
    engine.delete(new, SYSTEM, True)
    assert kept.keeper.save()
    found, seq, numbers = kept.reopened(tmp_path / "copy")
    assert found == kept.contents()
    assert (seq, numbers) == (engine.journal.seq, engine.numbers.given)
    engine.reset()
    assert kept.keeper.save()
    assert kept.reopened(tmp_path / "copy")[0] == kept.contents()
    kept.keeper.close()


def test_a_kill_at_any_step_of_a_new_snapshot_leaves_a_whole_file(tmp_path):
    kept = Kept(tmp_path / "objects.jsonl")
    subnet = kept.named("subnet", "Big")
    for number in range(150):
        kept.box(subnet, number)
    before, steps = os.path.getsize(kept.path), 0
    for _ in kept.keeper._snapshot(lambda sync: sync()):
        kept.box(subnet, 1000 + steps)
        kept.engine.delete(next(iter(kept.engine.store.all("container"))), SYSTEM, True)
        assert kept.keeper.save()
        assert kept.reopened(tmp_path / "copy")[0] == kept.contents()
        steps += 1
    assert steps > 3
    assert os.path.getsize(kept.path) < before * 1.2 and not os.path.exists(f"{kept.path}.new")
    assert kept.reopened(tmp_path / "copy")[0] == kept.contents(), (
        "what changed between the steps is in the new file"
    )
    kept.keeper.close()


def test_a_file_that_grows_is_written_anew_while_requests_go_on(tmp_path):
    kept = Kept(tmp_path / "objects.jsonl")
    box, deadline = kept.box(kept.named("subnet", "Big"), 1), time.monotonic() + 60
    with open(kept.path, "rb") as first:
        for number in itertools.count():
            kept.engine.update(box, {"name": f"name-{number}"}, SYSTEM, True)
            assert kept.keeper.save()
            if number % 50 == 0:
                gevent.sleep(0.001)
                if os.stat(kept.path).st_ino != os.fstat(first.fileno()).st_ino:
                    break
            assert time.monotonic() < deadline
        # The lines that came while it was written are in both.
        assert os.path.getsize(kept.path) < os.fstat(first.fileno()).st_size
    assert kept.reopened(tmp_path / "copy")[0] == kept.contents()
    kept.keeper.close()


def test_a_torn_last_record_is_cut_off_and_the_file_goes_on(flags):
    path = flags[-1]
    with VsdSimulator(*flags) as simulator:
        client, subnet_id = logged_in(simulator)
        made = [create(client, subnet_id, number)["ID"] for number in (1, 2)]
    whole = Path(path).read_bytes()
    last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    for rest in (last[:-5], last[:3], last[: len(last) // 2] + b"\n"):
        with open(path, "wb") as file:
            file.write(whole[: -len(last) - 1] + rest)
        with VsdSimulator(*flags) as simulator:
            client, subnet_id = logged_in(simulator)
            assert list(all_containers(client)) == made[:1]
            create(client, subnet_id, 3)
        with VsdSimulator(*flags) as simulator:
            assert len(all_containers(logged_in(simulator)[0])) == 2
        assert b"\n\n" not in Path(path).read_bytes()


def test_a_file_that_is_no_whole_state_is_refused_in_one_line_and_left_alone(flags):
    path = flags[-1]
    with VsdSimulator(*flags) as simulator:
        client, subnet_id = logged_in(simulator)
        create(client, subnet_id, 1)
        create(client, subnet_id, 2)
        assert "in use by another simulator" in refuses_to_start(*flags)
    lines = Path(path).read_bytes().splitlines(keepends=True)
    newer = json.dumps(
        {"format": "nuage_lab.vsd state", "version": 2}, separators=(",", ":")
    ).encode()
    flipped = lines[-2].replace(b"box-1", b"box-9")
    cases = {
        "is not a state file of this simulator; name another one": (
            b"enterprises:\n  - {name: CSP}\n"
        ),
        "is not a state file of": b"",
        "is cut off after line 4": b"".join(lines[:4]),
        "is cut off after line 3": b"".join(lines[:4])[:-9],
        "line 6 is damaged and lines follow": b"".join(lines[:5])
        + lines[5][:20]
        + b"\n"
        + b"".join(lines[6:]),
        f"line {len(lines) - 1} is damaged": b"".join(lines[:-2]) + flipped + lines[-1],
        "is of version 2, and this simulator knows version 1": b'["%08x",%b]\n'
        % (zlib.crc32(newer), newer)
        + b"".join(lines[1:]),
    }
    for wanted, text in cases.items():
        with open(path, "wb") as file:
            file.write(text)
        assert wanted in refuses_to_start(*flags)
        assert Path(path).read_bytes() == text
    os.unlink(path)
    os.mkfifo(path)
    assert (
        refuses_to_start(*flags)
        == f"--state {os.path.realpath(path)} is not a regular file; name another one"
    )
    os.unlink(path)
    os.mkdir(path)
    assert "Is a directory" in refuses_to_start(*flags)


@pytest.fixture()
def small_disk(tmp_path):
    """A file system of 200 kB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=200k", "none", place], capture_output=True
        ).returncode
    ):
        pytest.skip("needs to mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_on_a_full_disk_changes_are_refused_reads_go_on_and_nothing_that_was_answered_is_lost(
    flags, small_disk
):
    flags = (*flags[:-1], str(small_disk / "objects.jsonl"))
    with VsdSimulator(*flags) as simulator:
        client, subnet_id = logged_in(simulator)
        made = [create(client, subnet_id, 1)["ID"]]
        (small_disk / "ballast").write_bytes(
            b"x" * (200 * 1024 - os.path.getsize(flags[-1]) - 16384)
        )
        for number in range(2, 100):
            status, _, body = client.post("/containers", container(subnet_id, number))
            if status != 201:
                break
            made.append(body[0]["ID"])
        assert (status, body["description"]) == (
            503,
            "The state file cannot be written: No space left on device",
        )
        refused = client.post("/containers", container(subnet_id, 200))
        assert (
            refused[0] == 503 and client.delete(f"/containers/{made[0]}?responseChoice=1")[0] == 503
        )
        assert set(made) <= set(all_containers(client)), "reads go on"
        there = len(all_containers(client))
        assert there <= len(made) + 1, "at most the one whose write failed was done"
        assert simulator.errors().count("cannot be written") == 1
        copy = small_disk.parent / "copy"
        shutil.copy(flags[-1], copy)
        (small_disk / "ballast").unlink()
        made.append(create(client, subnet_id, 201)["ID"])
        there = set(all_containers(client))
        simulator.process.kill()
        simulator.process.wait(60)
    with VsdSimulator(*flags) as simulator:
        assert set(all_containers(logged_in(simulator)[0])) == there
    with VsdSimulator(*flags[:-1], str(copy)) as simulator:
        assert set(all_containers(logged_in(simulator)[0])) == set(made[:-1]), (
            "as it was when the disk was full"
        )


def test_a_file_on_a_read_only_file_system_is_refused_in_one_line(flags, small_disk):
    flags = (*flags[:-1], str(small_disk / "objects.jsonl"))
    with VsdSimulator(*flags):
        pass
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "Read-only file system" in refuses_to_start(*flags)
    assert "Read-only file system" in refuses_to_start(*flags[:-1], str(small_disk / "other.jsonl"))


def test_a_state_of_ones_own_wins_over_the_seed_and_a_reset_brings_the_seed_back(flags):
    with VsdSimulator(*flags, "--state-sync") as simulator:
        client, subnet_id = logged_in(simulator)
        assert client.post("/enterprises", {"name": "Mine"})[0] == 201
        made = create(client, subnet_id, 1)
    assert oct(os.stat(flags[-1]).st_mode & 0o777) == "0o600", "it holds passwords"
    with VsdSimulator(*flags) as simulator:
        client, subnet_id = logged_in(simulator)
        assert client.get("/enterprises", filter='name == "Mine"')[2] and all_containers(
            client
        ) == {made["ID"]: made}
        simulator.admin("POST", "/reset")
        simulator.process.kill()
        simulator.process.wait(60)
    with VsdSimulator(*flags) as simulator:
        client, _ = logged_in(simulator)
        assert (
            client.get("/enterprises", filter='name == "Mine"')[2] is None
            and all_containers(client) == {}
        )


def test_a_resync_that_was_under_way_goes_on_after_a_restart(flags):
    with VsdSimulator(*flags) as simulator:
        client, subnet_id = logged_in(simulator)
        made = create(client, subnet_id, 1)
        assert client.post(f"/containers/{made['ID']}/containerresync")[0] == 201
        simulator.process.kill()
        simulator.process.wait(60)
    with VsdSimulator(*flags) as simulator:
        client, _ = logged_in(simulator)
        assert (
            client.post(f"/containers/{made['ID']}/containerresync")[2]["internalErrorCode"] == 2715
        )
        simulator.admin(
            "POST",
            "/vsc/report",
            {
                "uuid": made["UUID"],
                "mac": made["interfaces"][0]["MAC"],
                "state": "running",
                "hypervisor_ip": "10.0.0.1",
                "vrs_id": "vrs-1",
            },
        )
        assert client.post(f"/containers/{made['ID']}/containerresync")[0] == 201
