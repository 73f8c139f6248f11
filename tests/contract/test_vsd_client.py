"""The VSD as a backend: trust, log-in, lost replies, absence; each seen through the plugin
sockets as the engine would.
"""

import concurrent.futures
import json
import os
import socket
import time
from pathlib import Path

import pytest

from tests.support.appliance import Appliance, encode
from tests.support.scripted_engine import OPTIONS, FakeApi, PluginError, ScriptedEngine
from tests.support.vsd import VsdSimulator


class Site:
    """One simulator, one ovsdb-server, one engine, one appliance."""

    def __init__(self, ovsdb, tmp_path, *flags, use_cafile=True, **settings):
        self.vsd = VsdSimulator(*flags)
        self.api = FakeApi(str(tmp_path / "docker.sock"))
        self.ovsdb = ovsdb
        settings.setdefault("cafile", self.vsd.ca_file if use_cafile else "")
        self.app = Appliance(self.vsd.url, ovsdb.socket, self.api.path, **settings)
        self.engine = ScriptedEngine(self.app.plugins, self.api)

    def containers(self):
        client = self.vsd.client()
        client.me()
        _, _, body = client.get("/containers", page=0, page_size=500)
        client.close()
        return body or []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.app.close()
        self.api.stop()
        self.vsd.stop()


@pytest.fixture()
def site(ovsdb, tmp_path):
    with Site(ovsdb, tmp_path) as ready:
        ready.app.wait_ready()
        yield ready


def refusal(call, *arguments, **keywords):
    with pytest.raises(PluginError) as caught:
        call(*arguments, **keywords)
    return caught.value.text


# -- trust ---------------------------------------------------------------------------------------


def test_without_a_cafile_the_first_certificate_is_pinned_and_said(ovsdb, tmp_path):
    with Site(ovsdb, tmp_path, use_cafile=False) as site:
        site.app.wait_ready()
        pins = json.loads((site.app.directory / "state" / "vsd-certificate.json").read_text())
        fingerprint = next(value for key, value in pins.items() if key.startswith("127.0.0.1:"))
        assert len(fingerprint) == 64
        shown = ":".join(fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
        assert shown in site.app.log() and "only this one is accepted" in site.app.log()
        site.engine.network_create("MyNet")
        site.app.restart()
        site.app.wait_ready()
        assert site.app.log().count("only this one is accepted") == 1


def test_a_changed_certificate_is_refused_with_what_to_do_and_accepted_after_it_was_done(
    ovsdb, tmp_path
):
    with Site(ovsdb, tmp_path, use_cafile=False) as site:
        site.app.wait_ready()
        port = site.vsd.url.rsplit(":", 1)[1]
        site.vsd.stop()
        site.vsd = VsdSimulator("--listen", f"127.0.0.1:{port}")
        text = refusal(site.engine.network_create, "MyNet")
        assert (
            "another certificate" in text
            and "vsd-certificate.json" in text
            and "tlsfingerprint" in text
        )
        (site.app.directory / "state" / "vsd-certificate.json").unlink()
        site.app.restart()
        site.app.wait_ready()
        site.engine.network_create("MyNet")


def test_a_certificate_that_the_cafile_does_not_vouch_for_is_refused(ovsdb, tmp_path):
    with (
        VsdSimulator() as other,
        Site(ovsdb, tmp_path, use_cafile=False, cafile=other.ca_file) as site,
    ):
        text = refusal(site.engine.network_create, "MyNet")
        assert "not trusted" in text and "cafile" in text


def test_a_fingerprint_pins_by_hand(ovsdb, tmp_path):
    with Site(ovsdb, tmp_path, use_cafile=False, tlsfingerprint="00" * 32) as site:
        text = refusal(site.engine.network_create, "MyNet")
        assert "tlsfingerprint" in text and "another certificate" in text


def test_trust_can_be_switched_off_only_in_writing_and_is_warned_about(ovsdb, tmp_path):
    with Site(ovsdb, tmp_path, use_cafile=False, tlsverify=False) as site:
        site.app.wait_ready()
        site.engine.network_create("MyNet")
        assert "tlsverify is false" in site.app.log()


# -- log-in --------------------------------------------------------------------------------------


def test_wrong_credentials_reach_the_user_in_words_and_the_vsd_is_not_hammered(ovsdb, tmp_path):
    with Site(ovsdb, tmp_path, password=encode("wrong-password-1")) as site:
        text = refusal(site.engine.network_create, "MyNet")
        assert "refuses user 'csproot' of organization 'csp'" in text and "password" in text
        for _ in range(20):
            refusal(site.engine.network_create, "MyNet")
        assert site.vsd.admin("GET", "/counters").get("GET /me", 0) <= 5
        assert "wrong-password-1" not in site.app.log() + site.app.errors()


def test_a_dead_key_is_renewed_once_for_64_calls_at_once(site):
    network = site.engine.network_create("Big", {**OPTIONS, "subnet": "Big"})
    site.engine.setup(network)
    before = site.vsd.admin("GET", "/counters").get("GET /me", 0)
    site.vsd.admin("POST", "/expire-keys")
    pool = site.engine.pools[network][0]
    with concurrent.futures.ThreadPoolExecutor(64) as threads:
        jobs = [
            threads.submit(
                site.engine.ipam.call,
                "IpamDriver.RequestAddress",
                {"PoolID": pool, "Address": "", "Options": None},
            )
            for _ in range(64)
        ]
        addresses = {job.result()["Address"] for job in jobs}
    assert len(addresses) == 64
    # One renewal, and one spare for a call that was under way while the keys died.
    assert site.vsd.admin("GET", "/counters").get("GET /me", 0) - before <= 2


def test_the_key_is_renewed_before_it_dies(ovsdb, tmp_path):
    with Site(ovsdb, tmp_path, "--key-validity", "4", "--key-renewal", "2") as site:
        site.app.wait_ready()
        end = time.monotonic() + 13
        while time.monotonic() < end:
            network = site.engine.network_create("MyNet")
            site.engine.network_rm(network)
            time.sleep(0.2)
        requests = site.vsd.admin("GET", "/requests")["requests"]
        refused = [entry for entry in requests if entry["status"] == 401]
        keys = [entry for entry in requests if entry["path"] == "/me" and entry["status"] == 200]
        # Of such short keys a second is known with certainty, which a busy machine may take away
        # once; a dead key is refused each time.
        assert len(keys) >= 3 and len(refused) < len(keys) / 2, (refused, keys)


def test_a_second_401_after_a_renewal_is_final_and_named(site):
    network = site.engine.network_create("MyNet")
    site.vsd.admin(
        "POST", "/faults", {"method": "POST", "path": "/containers", "action": "401", "count": 0}
    )
    text = refusal(site.engine.setup, network)
    assert "CMS role" in text and "licence" in text


# -- failures and absence ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action", ["503", "503html", "500", "reset", "reset_after", "malformed", "empty"]
)
def test_a_failing_creation_is_repeated_and_made_exactly_once(site, action):
    network = site.engine.network_create("MyNet")
    site.vsd.admin(
        "POST", "/faults", {"method": "POST", "path": "/containers$", "action": action, "count": 1}
    )
    endpoint = site.engine.setup(network)
    containers = site.containers()
    assert len(containers) == 1
    assert containers[0]["interfaces"][0]["IPAddress"] == endpoint["address"].split("/")[0]


def test_a_vsd_that_asks_for_confirmation_gets_it(site):
    site.vsd.admin("POST", "/config", {"demand_confirmation": True})
    network = site.engine.network_create("MyNet")
    endpoint = site.engine.run("web", network, env=["NUAGE-POLICY-GROUP=Web"])
    site.app.wait_until(lambda: site.ovsdb.names("Nuage_Port_Table"), what="plugging")
    site.engine.stop(endpoint)
    assert site.containers() == []


def test_with_the_vsd_away_calls_fail_in_time_with_its_name_and_everything_works_when_it_is_back(
    ovsdb, tmp_path
):
    with Site(ovsdb, tmp_path, requesttimeout=6) as site:
        site.app.wait_ready()
        network = site.engine.network_create("MyNet")
        kept = site.engine.run("kept", network)
        site.app.wait_until(lambda: site.ovsdb.names("Nuage_Port_Table"), what="plugging")
        site.vsd.admin(
            "POST", "/faults", {"method": "*", "path": ".*", "action": "reset", "count": 0}
        )
        started = time.monotonic()
        text = refusal(site.engine.setup, network)
        assert time.monotonic() - started < 12, "the default would be 20 s"
        assert site.vsd.url in text
        assert site.engine.network.call("NetworkDriver.GetCapabilities")["Scope"] == "local"
        site.engine.stop(kept)  # succeeds for the engine although the VSD cannot be told
        assert site.ovsdb.names("Nuage_Port_Table") == []
        site.vsd.admin("DELETE", "/faults")
        site.app.wait_until(lambda: site.containers() == [], what="the late release")
        site.engine.setup(network)


def test_a_vsd_that_hangs_costs_no_more_than_the_deadline(ovsdb, tmp_path):
    with Site(ovsdb, tmp_path, requesttimeout=4) as site:
        site.app.wait_ready()
        network = site.engine.network_create("MyNet")
        site.vsd.admin(
            "POST",
            "/faults",
            {"method": "*", "path": ".*", "action": "hang", "seconds": 60, "count": 0},
        )
        started = time.monotonic()
        text = refusal(site.engine.setup, network)
        assert time.monotonic() - started < 10, "the default would be 20 s"
        assert "did not answer" in text


def test_the_appliance_starts_while_the_vsd_is_away_and_serves_when_it_comes(ovsdb, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = FakeApi(str(tmp_path / "docker.sock"))
    with Appliance(f"https://127.0.0.1:{port}", ovsdb.socket, api.path, requesttimeout=3) as app:
        engine = ScriptedEngine(app.plugins, api)
        text = refusal(engine.network_create, "MyNet")
        assert f"127.0.0.1:{port}" in text and "cannot be reached" in text
        with VsdSimulator("--listen", f"127.0.0.1:{port}"):
            app.wait_until(
                lambda: not app.status()["components"]["vsd"]["problem"], what="the log-in"
            )
            network = engine.network_create("MyNet")
            engine.setup(network)
    api.stop()


def test_containers_of_other_hosts_are_never_touched(site):
    client = site.vsd.client()
    client.me()
    network = site.engine.network_create("MyNet")
    subnet = client.get("/subnets", filter='name == "Subnet 2"')[2][0]["ID"]
    status, _, body = client.post(
        "/containers",
        {
            "UUID": "f" * 64,
            "name": "foreign",
            "externalID": "other-host",
            "interfaces": [
                {
                    "name": "nln1-1",
                    "MAC": "02:00:00:00:00:01",
                    "attachedNetworkID": subnet,
                    "IPAddress": "10.21.59.40",
                }
            ],
        },
    )
    if status != 201:
        subnets = {item["ID"] for item in client.get("/subnets", filter='name == "Subnet 2"')[2]}
        pytest.fail(f"{status} {body} {subnets}")
    pool = site.engine.pools[network][0]
    site.engine.ipam.call("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": "10.21.59.40"})
    used = json.dumps([item["UUID"] for item in site.containers()])
    assert "f" * 64 in used
    client.close()


def test_our_own_leftover_that_holds_a_wanted_address_is_replaced_after_a_restart(site):
    network = site.engine.network_create("MyNet")
    pool = site.engine.pools[network][0]
    site.engine.ipam.call(
        "IpamDriver.RequestAddress", {"PoolID": pool, "Address": "10.21.59.50", "Options": None}
    )
    site.app.kill()
    site.app.start()
    site.app.wait_ready()
    # The engine never mentions the reservation again (it crashed too); the same address is asked
    # for anew.
    deadline = time.monotonic() + 60
    while True:
        try:
            endpoint = site.engine.setup(network, ip="10.21.59.50")
            break
        except PluginError as error:
            assert "in use" in error.text and time.monotonic() < deadline, error.text
            time.sleep(0.2)
    assert endpoint["address"] == "10.21.59.50/24"
    assert len(site.containers()) == 1


def test_an_ip_range_is_honoured_until_it_is_full(site):
    network = site.engine.network_create(
        "MyNet", subnet="10.21.59.0/24", ip_range="10.21.59.128/30"
    )
    addresses = {site.engine.setup(network)["address"] for _ in range(4)}
    assert addresses == {f"10.21.59.{n}/24" for n in (128, 129, 130, 131)}
    text = refusal(site.engine.setup, network)
    assert "no address is left in 10.21.59.128/30" in text


@pytest.mark.parametrize("times", [1, 3])
def test_a_log_in_that_fails_for_a_moment_after_the_keys_died_is_not_noticed_by_the_user(
    site, times
):
    """As when the VSD was restarted: the call was refused with 401 and not carried out, so it is
    repeated, whatever it is.
    """
    network = site.engine.network_create("MyNet")
    site.vsd.admin("POST", "/expire-keys")
    site.vsd.admin(
        "POST", "/faults", {"method": "GET", "path": "/me$", "count": times, "action": "503"}
    )
    endpoint = site.engine.setup(network)
    assert [one["interfaces"][0]["IPAddress"] for one in site.containers()] == [
        endpoint["address"].split("/")[0]
    ]


@pytest.fixture
def admin(site):
    """Somebody else on the VSD, such as its administrator."""
    client = site.vsd.client()
    client.me()
    yield client
    client.close()


def _subnet(admin):
    return next(
        one
        for one in admin.get("/subnets", filter='name == "Subnet 2"')[2]
        if one["address"] == "10.21.59.0"
    )


def _made_anew(admin, **other):
    """The subnet deleted and made again under its name; returns its new id."""
    old = _subnet(admin)
    assert admin.delete(f"/subnets/{old['ID']}?responseChoice=1")[0] == 204
    values = {key: old[key] for key in ("name", "address", "netmask", "gateway")}
    status, _, body = admin.post(f"/zones/{old['parentID']}/subnets", {**values, **other})
    assert status == 201, body
    return body[0]["ID"]


def test_an_ip_range_leaves_out_what_is_reserved_on_the_vsd(site, admin):
    """The VSD grants a reserved address to whoever asks for it, and whoever chooses must ask for
    one (vsd §12).
    """
    subnet_id = _subnet(admin)["ID"]
    assert (
        admin.post(
            f"/subnets/{subnet_id}/vmipreservations",
            {"IPType": "IPV4", "IPV4Address": "10.21.59.129"},
        )[0]
        == 201
    )
    assert (
        admin.post(
            f"/subnets/{subnet_id}/ipreservations",
            {"MAC": "02:00:00:00:00:99", "IPAddress": "10.21.59.130"},
        )[0]
        == 201
    )
    network = site.engine.network_create(
        "MyNet", subnet="10.21.59.0/24", ip_range="10.21.59.128/30"
    )
    assert {site.engine.setup(network)["address"] for _ in range(2)} == {
        "10.21.59.128/24",
        "10.21.59.131/24",
    }
    assert "no address is left in 10.21.59.128/30" in refusal(site.engine.setup, network)
    assert [one["state"] for one in admin.get(f"/subnets/{subnet_id}/vmipreservations")[2]] == [
        "UNASSIGNED"
    ]


@pytest.mark.parametrize("space", ["nuage-local", "nuage-global"])
def test_a_release_leaves_an_administrators_reservation_of_the_address_alone(site, admin, space):
    subnet_id = _subnet(admin)["ID"]
    body = {"IPType": "IPV4", "IPV4Address": "10.21.59.99", "externalID": "of-the-admin"}
    assert admin.post(f"/subnets/{subnet_id}/vmipreservations", body)[0] == 201
    site.engine.space = space.removeprefix("nuage-").capitalize()
    network = site.engine.network_create("MyNet")
    assert site.engine.pools[network][0].split("/")[1] == space
    endpoint = site.engine.setup(network, ip="10.21.59.99")
    assert len(site.containers()) == 1
    site.engine.teardown(endpoint)
    assert site.containers() == []
    (left,) = admin.get(f"/subnets/{subnet_id}/vmipreservations")[2]
    assert (left["externalID"], left["state"]) == ("of-the-admin", "UNASSIGNED")


@pytest.mark.parametrize("ip_range", ["", "10.21.59.128/25"])
def test_a_subnet_that_was_made_anew_under_its_name_is_used_on(site, admin, ip_range):
    network = site.engine.network_create("MyNet", subnet="10.21.59.0/24", ip_range=ip_range)
    subnet_id = _made_anew(admin)
    endpoint = site.engine.setup(network)
    assert [one["attachedNetworkID"] for one in site.containers()[0]["interfaces"]] == [subnet_id]
    site.engine.teardown(endpoint)
    assert site.containers() == []


def test_a_subnet_that_was_made_anew_with_another_gateway_is_refused_in_words(site, admin):
    network = site.engine.network_create("MyNet")
    _made_anew(admin, gateway="10.21.59.254")
    text = refusal(site.engine.setup, network)
    assert (
        "was made anew with gateway 10.21.59.254" in text
        and "10.21.59.1;" in text
        and "create the network anew" in text
    )
    assert site.containers() == []


def test_a_subnet_that_was_renumbered_gives_no_address_outside_of_its_network(site, admin):
    network = site.engine.network_create("MyNet")
    changes = {"address": "10.50.0.0", "netmask": "255.255.254.0", "gateway": "10.50.0.1"}
    assert admin.put(f"/subnets/{_subnet(admin)['ID']}?responseChoice=1", changes)[0] in (200, 204)
    text = refusal(site.engine.setup, network)
    assert "10.50.0." in text and "was created for 10.21.59.0/24; create the network anew" in text
    site.app.wait_until(lambda: site.containers() == [], what="the container of no use given back")


def test_networks_on_two_parts_of_a_subnet_do_not_touch_each_others_addresses(site):
    low, high = (
        site.engine.network_create(name, subnet=subnet, gateway="10.21.59.1")
        for name, subnet in (("low", "10.21.59.0/25"), ("high", "10.21.59.128/25"))
    )
    endpoint = site.engine.setup(high, ip="10.21.59.200")
    site.engine.ipam.call(
        "IpamDriver.ReleaseAddress",
        {"PoolID": site.engine.pools[low][0], "Address": "10.21.59.200"},
    )
    assert len(site.containers()) == 1
    pool = site.engine.pools[high][0]
    site.engine.ipam.call(
        "IpamDriver.RequestAddress", {"PoolID": pool, "Address": "10.21.59.201", "Options": None}
    )
    text = refusal(
        site.engine.network.call,
        "NetworkDriver.CreateEndpoint",
        {
            "NetworkID": low,
            "EndpointID": "e" * 64,
            "Options": {},
            "Interface": {"Address": "10.21.59.201/24", "AddressIPv6": "", "MacAddress": ""},
        },
    )
    assert "outside of 10.21.59.0/25" in text
    site.engine.ipam.call("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": "10.21.59.201"})
    site.engine.teardown(endpoint)
    assert site.containers() == []


def test_a_subnet_that_was_renamed_still_has_one_network_an_engine(site, admin):
    site.engine.network_create("MyNet", subnet="10.21.59.0/24")
    assert admin.put(f"/subnets/{_subnet(admin)['ID']}?responseChoice=1", {"name": "Renamed"})[
        0
    ] in (200, 204)
    text = refusal(
        site.engine.network_create,
        "other",
        {**OPTIONS, "subnet": "Renamed"},
        subnet="10.21.59.0/24",
    )
    assert "MyNet" in text and "already uses 10.21.59.0/24" in text


def test_no_secret_is_in_any_file_that_the_appliance_wrote(site):
    network = site.engine.network_create("MyNet")
    site.engine.run("web", network)
    site.vsd.admin("POST", "/expire-keys")
    site.engine.setup(network)
    client = site.vsd.client()
    key = client.me()["APIKey"]
    client.close()
    basic = {encode(f"csproot:{key}"), encode("csproot:csproot"), key, encode("csproot")}
    for directory, _, names in os.walk(site.app.directory):
        for name in names:
            path = os.path.join(directory, name)
            if path == str(site.app.config_path) or not os.path.isfile(path):
                continue
            text = Path(path).read_text(encoding="utf-8", errors="replace")
            assert not [secret for secret in basic if secret in text], path


def test_where_the_vsd_changes_no_mac_the_container_is_replaced_with_the_wanted_one(site):
    network = site.engine.network_create("MyNet")
    site.vsd.admin(
        "POST",
        "/faults",
        {
            "method": "PUT",
            "path": "/containerinterfaces/",
            "action": "409",
            "code": 7036,
            "count": 0,
        },
    )
    endpoint = site.engine.run("web", network, mac="02:42:0a:15:3b:4d")
    (container,) = site.containers()
    assert (container["interfaces"][0]["MAC"], container["interfaces"][0]["IPAddress"]) == (
        "02:42:0a:15:3b:4d",
        endpoint["address"].split("/")[0],
    )
    site.app.wait_until(
        lambda: site.ovsdb.rows("Nuage_Port_Table", "mac") == [{"mac": "02:42:0a:15:3b:4d"}],
        what="plugging",
    )
    site.engine.stop(endpoint)
    assert site.containers() == []
