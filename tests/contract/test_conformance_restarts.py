"""Conformance tests 4, 6, 16 and 18 of libnetwork §10: the appliance is killed,
restarted, or ends.
"""

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.appliance import Appliance
from tests.support.plugin_calls import release, reserved

# -- 4 --------------------------------------------------------------------------------------------


_LIFE = [
    "GetDefaultAddressSpaces",
    "RequestPool",
    "RequestAddress of the gateway",
    "CreateNetwork",
    "RequestAddress",
    "CreateEndpoint",
    "Join",
    "ProgramExternalConnectivity",
    "EndpointOperInfo",
    "RevokeExternalConnectivity",
    "Leave",
    "DeleteEndpoint",
    "ReleaseAddress",
    "ReleaseAddress of the gateway",
    "ReleasePool",
    "DeleteNetwork",
]


class _Interrupted:
    """Does something before the n-th plugin call of an engine."""

    def __init__(self, engine, position, what):
        self._plugins = (engine.network, engine.ipam)
        self._calls, self._position, self._what = 0, position, what
        self.names = []

    def __enter__(self):
        for plugin in self._plugins:
            plugin.call = self._wrap(plugin)
        return self

    def _wrap(self, plugin):
        send = type(plugin).call.__get__(plugin)

        def call(method, body=None):
            if self._calls == self._position:
                self._what()
            self._calls += 1
            self.names.append(method.split(".")[1])
            return send(method, body)

        return call

    def __exit__(self, *_):
        for plugin in self._plugins:
            del plugin.call


@pytest.mark.parametrize("wait", [True, False], ids=["and ready", "and not ready yet"])
@pytest.mark.parametrize("position", range(len(_LIFE)), ids=_LIFE)
def test_a_kill_before_any_call_of_a_containers_life_is_not_noticed(mortal, position, wait):
    with _Interrupted(mortal.engine, position, lambda: mortal.restart(wait)) as calls:
        network_id = mortal.engine.network_create("n")
        endpoint = mortal.engine.run("c", network_id)
        mortal.wait_attached(endpoint)
        assert [one["name"] for one in mortal.containers()] == ["c"]
        mortal.engine.stop(endpoint)
        mortal.engine.network_rm(network_id)
    assert calls.names == [name.split()[0] for name in _LIFE]
    mortal.appliance.wait_ready()
    mortal.wait_clean()


def test_a_call_that_a_kill_cut_short_comes_again_without_body_and_is_refused(mortal):
    """libnetwork §1.5: the engine repeats the call with an empty body, gets an error, and rolls
    back.
    """
    network_id = mortal.engine.network_create("n")
    mortal.simulator.admin(
        "POST",
        "/faults",
        {"method": "POST", "path": "/containers", "count": 1, "action": "delay", "seconds": 3},
    )
    body = {"PoolID": mortal.engine.pools[network_id][0], "Address": "", "Options": None}
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(
            mortal.engine.ipam.raw, "IpamDriver.RequestAddress", json.dumps(body).encode()
        )
        mortal.appliance.wait_until(
            lambda: mortal.simulator.admin("GET", "/faults")["faults"][0]["hits"] == 1
        )
        mortal.restart()
        assert lost.exception(60) is not None
    mortal.simulator.admin("DELETE", "/faults")
    status, answer = mortal.engine.ipam.raw("IpamDriver.RequestAddress", b"")
    assert status == 500 and "no body" in answer["Err"]
    endpoint = mortal.engine.run("c", network_id)
    mortal.wait_attached(endpoint)
    mortal.engine.stop(endpoint)
    mortal.engine.network_rm(network_id)
    # What the lost call makes on the VSD, once its delay is over, is a container of this host
    # without a name; an audit deletes it.
    mortal.appliance.wait_until(mortal.containers, what="the creation that was under way")
    left = mortal.containers()
    assert len(left) == 1 and left[0]["name"] == left[0]["UUID"]
    client = mortal.simulator.client()
    client.me()
    for one in left:
        client.delete(f"/containers/{one['ID']}?responseChoice=1")
    client.close()
    mortal.restart()
    mortal.wait_clean()


# -- 6 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_same", [True, False], ids=["the same address", "any address"])
@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "after a kill of the appliance"])
def test_a_release_alone_takes_a_crashed_engines_endpoint_down_and_it_starts_again_at_once(
    mortal, is_same, is_restarted
):
    network_id = mortal.engine.network_create("n")
    endpoint = mortal.engine.run("c", network_id)
    mortal.wait_attached(endpoint)
    if is_restarted:
        mortal.restart()
    mortal.api.containers.clear()
    mortal.api.networks[network_id]["Containers"].clear()
    release(mortal, network_id, endpoint["address"])
    again = mortal.engine.run(
        "c", network_id, ip=endpoint["address"].split("/")[0] if is_same else ""
    )
    mortal.wait_attached(again)
    mortal.appliance.wait_until(
        lambda: mortal.links() == [again["entity_port"].replace("-2", "-1")]
    )
    assert mortal.addresses() == [again["address"].split("/")[0]], mortal.appliance.errors()[-6000:]
    assert mortal.ovsdb.names("Nuage_Port_Table") == mortal.links()
    mortal.engine.stop(again)
    mortal.engine.network_rm(network_id)
    mortal.wait_clean()


# -- 16 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "position",
    range(5),
    ids=[
        "before all",
        "before Leave",
        "before DeleteEndpoint",
        "before ReleaseAddress",
        "after all",
    ],
)
def test_containers_that_live_through_a_restart_are_torn_down_without_revoke(mortal, position):
    network_id = mortal.engine.network_create("n")
    endpoint = mortal.engine.run("c", network_id)
    mortal.wait_attached(endpoint)
    endpoint["gateway"] = ""  # an engine 29 has forgotten it, and sends no Revoke
    with _Interrupted(mortal.engine, position, mortal.restart):
        ids = {"NetworkID": network_id, "EndpointID": endpoint["endpoint_id"]}
        assert mortal.engine.network.call("NetworkDriver.EndpointOperInfo", ids) == {"Value": {}}
        mortal.engine.stop(endpoint)
        mortal.engine.network_rm(network_id)
    mortal.wait_clean()


def test_a_restart_changes_nothing_of_running_containers(mortal):
    network_id = mortal.engine.network_create("n")
    endpoints = [mortal.engine.run(f"c{number}", network_id) for number in range(3)]
    mortal.wait_attached(*endpoints)
    before = mortal.state()
    mortal.restart()
    mortal.appliance.wait_until(lambda: mortal.state() == before, what="as it was")
    for endpoint in endpoints:
        mortal.engine.stop(endpoint)
    mortal.engine.network_rm(network_id)
    mortal.wait_clean()


# -- 18 -------------------------------------------------------------------------------------------


def test_a_stale_socket_is_replaced_at_the_start(own_host):
    own_host.appliance.kill()
    for path in own_host.appliance.sockets:
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(path)  # the file is there, nobody listens
    own_host.restart()
    own_host.engine.network.call("NetworkDriver.GetCapabilities")


def test_the_sockets_are_gone_after_sigterm(own_host):
    assert own_host.appliance.kill(signal.SIGTERM) == 0
    for path in own_host.appliance.sockets:
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(FileNotFoundError):
            probe.connect(path)


def test_a_call_that_is_running_at_sigterm_is_answered(own_host):
    network_id = own_host.engine.network_create("n")
    own_host.simulator.admin(
        "POST",
        "/faults",
        {"method": "POST", "path": "/containers", "count": 1, "action": "delay", "seconds": 1.5},
    )
    with ThreadPoolExecutor() as pool:
        running = pool.submit(reserved, own_host, network_id)
        own_host.appliance.wait_until(
            lambda: own_host.simulator.admin("GET", "/faults")["faults"][0]["hits"] == 1
        )
        assert own_host.appliance.kill(signal.SIGTERM) == 0
        assert running.result().startswith("10.21.59.")


def test_an_idle_engine_connection_does_not_hold_up_the_end(own_host):
    own_host.engine.network.call("NetworkDriver.GetCapabilities")
    started = time.monotonic()
    assert own_host.appliance.kill(signal.SIGTERM) == 0
    assert time.monotonic() - started < 8, "a call that is running would hold it up for ten seconds"


def test_a_socket_that_another_process_serves_is_not_taken(own_host):
    with pytest.raises(AssertionError, match="served by another process"):
        Appliance(
            own_host.simulator.url,
            own_host.ovsdb.socket,
            own_host.api.path,
            cafile=own_host.simulator.ca_file,
            plugindir=own_host.appliance.plugins,
        )
    own_host.engine.network.disconnect()
    own_host.engine.network.call("NetworkDriver.GetCapabilities")
