"""Faults that a test orders over the admin interface, as a client of the VSD meets them."""

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support.vsd_objects import container, eventually, refused

# -- faults ---------------------------------------------------------------------------------------


def order(vsd, action, **more):
    return vsd.admin(
        "POST",
        "/faults",
        {"method": "POST", "path": "/containers$", "count": 1, "action": action, **more},
    )["id"]


@pytest.mark.parametrize(
    "action, status",
    [("401", 401), ("409", 409), ("500", 500), ("503", 503), ("503html", 503), ("300", 300)],
)
def test_an_ordered_status_is_answered_once_and_nothing_is_done(vsd, root, seed, action, status):
    body = container(seed.subnet("Subnet 2"))
    order(vsd, action, code=2704)
    answer = root.post("/containers", body)
    assert answer[0] == status
    if action == "409":
        refused(answer, 409, 2704)
    elif action == "503":
        assert isinstance(answer[2]["errors"], str)
    elif action == "503html":
        assert "<html>" in answer[2]
    assert root.get("/containers")[2] is None
    assert root.post("/containers", body)[0] == 201


def test_an_ordered_reset_does_nothing_and_one_after_the_work_leaves_it_done(vsd, root, seed):
    body = container(seed.subnet("Subnet 2"))
    order(vsd, "reset")
    with pytest.raises(requests.exceptions.ConnectionError):
        root.post("/containers", body)
    assert root.get("/containers")[2] is None
    order(vsd, "reset_after")
    with pytest.raises(requests.exceptions.ConnectionError):
        root.post("/containers", body)
    assert [one["UUID"] for one in root.get("/containers")[2]] == [body["UUID"]]


def test_an_ordered_reset_is_a_tcp_reset_on_the_wire(vsd):
    vsd.admin("POST", "/faults", {"path": "^/me$", "action": "reset"})
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=vsd.ca_file).wrap_bio(
        incoming, outgoing, server_hostname="localhost"
    )
    port = int(vsd.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        while not _shook_hands(tls):
            connection.sendall(outgoing.read())
            incoming.write(connection.recv(65536))
        tls.write(b"GET /nuage/api/v6/me HTTP/1.1\r\nHost: vsd\r\n\r\n")
        connection.sendall(outgoing.read())
        with pytest.raises(ConnectionResetError):
            while connection.recv(65536):
                pass
            pytest.fail("the connection was closed in order")


def _shook_hands(tls):
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def test_an_ordered_delay_and_hang_hold_the_reply_back(vsd, root, seed):
    order(vsd, "delay", seconds=0.3)
    started = time.monotonic()
    assert root.post("/containers", container(seed.subnet("Subnet 2")))[0] == 201
    assert time.monotonic() - started >= 0.3
    order(vsd, "hang", seconds=0.2)
    with pytest.raises(requests.exceptions.ConnectionError):
        root.post("/containers", container(seed.subnet("Subnet 2")))
    assert vsd.admin("GET", "/health")["containers"] == 1


def test_what_hangs_ends_without_an_answer_when_the_fault_is_taken_back(vsd, root, seed):
    order(vsd, "hang", seconds=50)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(root.post, "/containers", container(seed.subnet("Subnet 2")))
        assert eventually(lambda: vsd.admin("GET", "/faults")["faults"][0]["hits"] == 1)
        assert not hanging.done()
        vsd.admin("DELETE", "/faults")
        with pytest.raises(requests.exceptions.ConnectionError):
            hanging.result(30)
    assert vsd.admin("GET", "/health")["containers"] == 0


def test_an_ordered_malformed_or_empty_body_comes_after_the_work(vsd, root, seed):
    order(vsd, "malformed")
    with pytest.raises(ValueError):
        root.post("/containers", container(seed.subnet("Subnet 2")))
    order(vsd, "empty")
    assert root.post("/containers", container(seed.subnet("Subnet 2")))[::2] == (201, None)
    assert root.get("/containers")[1]["X-Nuage-Count"] == "2"


def test_faults_are_counted_limited_by_path_and_cleared(vsd, root):
    vsd.admin(
        "POST", "/faults", {"method": "*", "path": "^/enterprises$", "count": 0, "action": "500"}
    )
    vsd.admin(
        "POST",
        "/faults",
        {"method": "GET", "path": "/nuage/api/v6/zones", "count": 1, "action": "503"},
    )
    never = vsd.admin(
        "POST", "/faults", {"path": "", "count": 0, "action": "500", "probability": 0}
    )["id"]
    assert [root.get("/enterprises")[0] for _ in range(3)] == [500] * 3
    assert [root.get("/zones")[0] for _ in range(2)] == [503, 200]
    assert root.get("/subnets")[0] == 200
    hits = {one["id"]: one["hits"] for one in vsd.admin("GET", "/faults")["faults"]}
    assert sorted(hits.values()) == [0, 1, 3] and hits[never] == 0
    vsd.admin("DELETE", "/faults")
    assert root.get("/enterprises")[0] == 200
    for wrong in (
        {"action": "explode"},
        {"action": "500", "path": "("},
        {"action": "500", "colour": "red"},
    ):
        with pytest.raises(RuntimeError, match="400"):
            vsd.admin("POST", "/faults", wrong)
