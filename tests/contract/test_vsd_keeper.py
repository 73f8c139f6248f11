"""A simulator that keeps its objects: what a client was told outlives a kill, its key does not."""

import uuid

from tests.support.vsd import VsdSimulator


def create(client, subnet_id, number):
    """Create a container; returns VSD's object."""
    status, _, body = client.post("/containers", {"UUID": uuid.uuid4().hex * 2, "name": f"box-{number}", "externalID": "host", "interfaces": [
        {"name": f"port-{number}", "MAC": f"7a:42:00:00:00:{number:02x}", "attachedNetworkID": subnet_id}]})
    assert status == 201, body
    return body[0]


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
        assert [(one["ID"], one["interfaces"][0]["IPAddress"]) for one in found] == [(kept["ID"], kept["interfaces"][0]["IPAddress"])]
        assert client.get(f"/subnets/{subnet_id}/containers")[2][0]["ID"] == kept["ID"]
        assert create(client, subnet_id, 3)["interfaces"][0]["IPAddress"] != kept["interfaces"][0]["IPAddress"]
        changes = second.admin("GET", f"/vsc/changes?since={seq}")
        assert not changes["lost"] and changes["changes"], "a controller goes on where it was"
        assert client.delete(f"/containers/{kept['ID']}?responseChoice=1")[0] == 204
        assert "Traceback" not in second.errors()
