"""A real engine, a real Open vSwitch, the appliance as it ships: every test starts with a docker
command.

What the user reads is asserted, that containers ping, and that engine, VSD, VRS and kernel agree
afterwards.
"""

import concurrent.futures
import json
import re
import time

import pytest

from nuage_lab.hosts.run import kill_session
from tests.support.docker_cli import PLACE, create, refusal, run
from tests.support.invariants import (
    IMAGE,
    address_of,
    clean,
    engine_endpoints,
    links,
    ovs_endpoints,
    rows,
    vsd_endpoints,
    wait_agreement,
    wait_ping,
)


@pytest.fixture()
def h1(lab):
    """A host of the lab without containers; what a test leaves is checked to agree, and removed."""
    host = lab.host("h1")
    clean(host)
    yield host
    clean(host)
    wait_agreement(lab, host)
    assert (
        links(host) == set() and ovs_endpoints(host) == set() and vsd_endpoints(lab, host) == set()
    )


def test_the_commands_of_the_readme_do_what_they_say(lab, h1):
    create(h1, "MyNet", "--subnet=10.21.59.0/24", "--gateway=10.21.59.1")
    assert re.search(r"MyNet\s+nuage\s+local", h1.docker("network", "ls").stdout)
    ids = {name: run(h1, name, "MyNet").stdout.strip() for name in ("web", "db")}
    wait_agreement(lab, h1)
    wait_ping(h1, "web", address_of(h1, "db", "MyNet"))
    wait_ping(h1, "db", "10.21.59.1")
    shown = json.loads(h1.docker("network", "inspect", "MyNet").stdout)[0]
    assert shown["IPAM"] == {
        "Driver": "nuage-ipam",
        "Options": PLACE,
        "Config": [{"Subnet": "10.21.59.0/24", "Gateway": "10.21.59.1"}],
    }
    assert set(shown["Containers"]) == set(ids.values())
    assert all(
        entry["MacAddress"] and entry["IPv4Address"].endswith("/24")
        for entry in shown["Containers"].values()
    )
    assert {(uuid, name) for uuid, name, *_ in vsd_endpoints(lab, h1)} == {
        (ids["web"], "web"),
        (ids["db"], "db"),
    }
    route = h1.docker("exec", "web", "ip", "route").stdout
    assert (
        "default via 10.21.59.1" in route
        and "eth1" not in h1.docker("exec", "web", "ip", "link").stdout
    )


def test_tcp_passes_between_two_containers(lab, h1):
    create(h1, "MyNet")
    run(h1, "web", "MyNet", command=("httpd", "-f", "-h", "/www"))
    run(h1, "client", "MyNet")
    address = address_of(h1, "web", "MyNet")
    wait_ping(h1, "client", address)
    assert h1.docker(
        "exec", "client", "timeout", "25", "wget", "-q", "-O", "-", f"http://{address}/"
    ).stdout


def test_subnet_and_gateway_may_be_left_out_and_come_from_the_vsd(lab, h1):
    create(h1, "Auto", subnet="Subnet 1")
    assert json.loads(h1.docker("network", "inspect", "Auto").stdout)[0]["IPAM"]["Config"] == [
        {"Subnet": "10.21.58.0/24", "Gateway": "10.21.58.1"}
    ]


def test_subnets_of_one_domain_are_routed_and_other_domains_are_not_reached(lab, h1):
    create(h1, "one", subnet="Subnet 1")
    create(h1, "two", subnet="Subnet 2")
    create(h1, "other", "--subnet=10.21.59.0/24", domain="Domain B")
    run(h1, "box-a", "one")
    run(h1, "box-b", "two")
    run(h1, "box-c", "other")
    wait_agreement(lab, h1)
    wait_ping(h1, "box-a", address_of(h1, "box-b", "two"))
    # Two tenants, one CIDR: the same address twice is right.
    if address_of(h1, "box-b", "two") == address_of(h1, "box-c", "other"):
        assert len({mac for *_, mac in ovs_endpoints(h1)}) == 3
    lonely = h1.docker("exec", "box-c", "ping", "-c", "1", "-W", "1", "10.21.58.1", check=False)
    assert lonely.returncode != 0


def test_a_fixed_address_and_a_fixed_mac_are_kept(lab, h1):
    create(h1, "MyNet", "--subnet=10.21.59.0/24")
    run(h1, "fixed", "MyNet", "--ip", "10.21.59.77", "--mac-address", "02:42:0a:15:3b:4d")
    run(h1, "other", "MyNet")
    wait_agreement(lab, h1)
    assert {
        (address, mac) for _, name, address, mac in engine_endpoints(h1) if name == "fixed"
    } == {("10.21.59.77", "02:42:0a:15:3b:4d")}
    assert "02:42:0a:15:3b:4d" in h1.docker("exec", "fixed", "ip", "link", "show", "eth0").stdout
    wait_ping(h1, "other", "10.21.59.77")
    h1.docker("restart", "fixed")
    wait_agreement(lab, h1)
    assert address_of(h1, "fixed", "MyNet") == "10.21.59.77"


def test_a_container_on_two_networks_has_a_vsd_container_for_each(lab, h1):
    create(h1, "one", subnet="Subnet 1")
    create(h1, "two", subnet="Subnet 2")
    container_id = run(h1, "both", "one").stdout.strip()
    h1.docker("network", "connect", "two", "both")
    run(h1, "peer", "two")
    wait_agreement(lab, h1)
    mine = [entry for entry in vsd_endpoints(lab, h1) if entry[1] == "both"]
    assert len(mine) == 2 and sum(uuid == container_id for uuid, *_ in mine) == 1
    wait_ping(h1, "both", address_of(h1, "peer", "two"))
    wait_ping(h1, "both", "10.21.58.1")
    h1.docker("network", "disconnect", "one", "both")
    wait_ping(h1, "both", address_of(h1, "peer", "two"))
    h1.docker("rm", "-f", "both")
    wait_agreement(lab, h1)


@pytest.mark.parametrize(
    "words",
    [
        ("-e", "NUAGE-POLICY-GROUP=Web, DB", "-e", "MY_NUAGE-POLICY-GROUP=No"),
        ("--label", "NUAGE-POLICY-GROUP=Web,DB"),
    ],
)
def test_policy_groups_and_the_task_id_come_from_environment_and_labels(lab, h1, words):
    create(h1, "MyNet")
    run(h1, "web", "MyNet", *words, "-e", "MESOS_TASK_ID=task=7")
    wait_agreement(lab, h1)
    tree = json.dumps(lab.admin("GET", "/tree"))
    assert re.search(
        r'"policy_groups": \["DB", "Web"\], "container": \{[^}]*"name": "web"', tree
    ), tree[:3000]


def test_a_container_that_asks_for_an_unknown_policy_group_stays_unplugged_and_it_is_said(lab, h1):
    create(h1, "MyNet")
    run(h1, "web", "MyNet", "-e", "NUAGE-POLICY-GROUP=Nobody")
    deadline = time.monotonic() + 60
    while "policy group 'Nobody'" not in h1.appliance.tail(20_000):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ovs_endpoints(h1) == set()
    assert (
        h1.docker("exec", "web", "ping", "-c", "1", "-W", "1", "10.21.59.1", check=False).returncode
        != 0
    )
    h1.docker("rm", "-f", "web")


def test_a_rename_reaches_the_vsd_and_the_vrs(lab, h1):
    create(h1, "MyNet")
    run(h1, "before", "MyNet")
    wait_agreement(lab, h1)
    h1.docker("rename", "before", "after")
    wait_agreement(lab, h1)
    assert [name for _, name, *_ in vsd_endpoints(lab, h1)] == ["after"]


def test_restart_stop_start_and_kill_leave_nothing_behind(lab, h1):
    create(h1, "MyNet")
    run(h1, "web", "MyNet")
    for words in (
        ("restart", "web"),
        ("stop", "web"),
        ("start", "web"),
        ("kill", "web"),
        ("start", "web"),
        ("pause", "web"),
        ("unpause", "web"),
    ):
        h1.docker(*words)
        wait_agreement(lab, h1)
    wait_ping(h1, "web", "10.21.59.1")


def test_thirty_containers_started_at_once_all_ping(lab, h1):
    create(h1, "MyNet")
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda n: run(h1, f"many-{n}", "MyNet"), range(30)))
    wait_agreement(lab, h1)
    assert len({address for _, _, address, _ in engine_endpoints(h1)}) == 30
    for number in (0, 7, 29):
        wait_ping(h1, f"many-{number}", "10.21.59.1")
    wait_ping(h1, "many-3", address_of(h1, "many-22", "MyNet"))
    names = [f"many-{n}" for n in range(30)]
    h1.docker("rm", "-f", *names, timeout=120)


def test_an_internal_network_has_no_default_route(lab, h1):
    create(h1, "Inside", "--internal")
    run(h1, "web", "Inside")
    wait_agreement(lab, h1)
    assert "default" not in h1.docker("exec", "web", "ip", "route").stdout


def test_an_l2_domain_is_used_when_zone_and_subnet_are_left_out(lab, h1):
    create(h1, "Flat", domain="L2", zone=None, subnet=None)
    run(h1, "box-a", "Flat")
    run(h1, "box-b", "Flat")
    wait_agreement(lab, h1)
    wait_ping(h1, "box-a", address_of(h1, "box-b", "Flat"))


# -- what the user reads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"organization": None}, "--ipam-opt organization=… is missing"),
        ({"zone": None}, "--ipam-opt zone=… is missing"),
        ({"organization": "Nobody"}, "the VSD has no organization 'Nobody'"),
        ({"domain": "No"}, "the VSD has no domain 'No'"),
        ({"zone": "$(reboot)"}, "the VSD has no zone '$(reboot)'"),
        ({"subnet": "a\"b'c,d"}, "the VSD has no subnet 'a\"b'c,d'"),
        ({"subnet": "two\nlines"}, "is not a name"),
        ({"subnet": "Ünï 子网"}, "the VSD has no subnet 'Ünï 子网'"),
        ({"subnet": "Old_MARKED_FOR_DELETION"}, "the VSD has no subnet"),
        ({"domain": "L2 raw", "zone": None, "subnet": None}, "no IPv4 address range"),
    ],
)
def test_a_wrong_option_is_named(h1, changes, words):
    assert words in refusal(create(h1, "Bad", check=False, **changes))


@pytest.mark.parametrize(
    "words, text",
    [
        (("--subnet=10.99.0.0/24",), "is 10.21.59.0/24 with gateway 10.21.59.1"),
        (("--subnet=10.21.0.0/16",), "is 10.21.59.0/24"),
        (("--subnet=10.21.59.0/24", "--gateway=10.21.59.254"), "with gateway 10.21.59.1"),
        (
            ("--subnet=10.21.59.0/24", "--aux-address", "router=10.21.59.9"),
            "--aux-address 10.21.59.9",
        ),
        (("--ipv6", "--subnet=10.21.59.0/24", "--subnet=2001:db8::/64"), "IPv4 only"),
    ],
)
def test_a_wrong_cidr_is_refused_with_the_vsds_values(h1, words, text):
    assert text in refusal(create(h1, "Bad", *words, check=False))
    assert "Bad" not in h1.docker("network", "ls").stdout


def test_a_second_network_on_the_same_subnet_is_refused(h1):
    create(h1, "First")
    assert "network 'First' of this engine already uses 10.21.59.0/24" in refusal(
        create(h1, "Second", check=False)
    )
    h1.docker("network", "rm", "First")
    create(h1, "Second")


def test_another_ipam_driver_is_refused(h1):
    done = h1.docker(
        "network", "create", "--driver=nuage", "--subnet=10.77.0.0/24", "Bad", check=False
    )
    assert "--ipam-driver=nuage-ipam" in refusal(done)


def test_a_full_subnet_and_a_taken_address_are_told_in_words(lab, h1):
    create(h1, "Tiny", "--subnet=10.21.60.0/29", subnet="Tiny")
    for number in range(5):
        run(h1, f"tiny-{number}", "Tiny")
    assert "no address is left" in refusal(run(h1, "sixth", "Tiny", check=False))
    taken = address_of(h1, "tiny-1", "Tiny")
    assert f"{taken} cannot be had" in refusal(
        run(h1, "seventh", "Tiny", "--ip", taken, check=False)
    )
    assert "10.21.60.1 is the gateway" in refusal(
        run(h1, "eighth", "Tiny", "--ip", "10.21.60.1", check=False)
    )


def test_wrong_credentials_and_an_absent_vsd_are_told_in_words(lab, h1):
    h1.write_config(lab.ca_file, password="d3Jvbmc=")
    h1.appliance.stop()
    h1.appliance.start()
    try:
        assert "refuses user 'csproot' of organization 'csp'" in refusal(
            create(h1, "Bad", check=False)
        )
    finally:
        h1.write_config(lab.ca_file)
        h1.appliance.stop()
        h1.appliance.start()
    lab.admin("POST", "/faults", {"method": "*", "path": ".*", "action": "reset", "count": 0})
    try:
        assert "the VSD at https://" in refusal(create(h1, "Bad", check=False))
    finally:
        lab.admin("DELETE", "/faults")


# -- lives and deaths ----------------------------------------------------------------------------


def test_no_packet_is_lost_when_the_appliance_is_killed_and_started_again(lab, h1):
    create(h1, "MyNet")
    run(h1, "box-a", "MyNet")
    run(h1, "box-b", "MyNet")
    wait_agreement(lab, h1)
    target = address_of(h1, "box-b", "MyNet")
    wait_ping(h1, "box-a", target)
    ping = h1.popen(
        ["docker", "exec", "box-a", "ping", "-c", "40", "-i", "0.2", "-W", "1", "-q", target]
    )
    try:
        time.sleep(1)
        h1.appliance.kill()
        h1.appliance.start()
        run(h1, "box-c", "MyNet")  # the next container must not hit a running one's link
        out, _ = ping.communicate(timeout=60)
    finally:
        kill_session(ping)
    assert "40 packets transmitted, 40 packets received" in out, out
    wait_agreement(lab, h1)
    wait_ping(h1, "box-c", target)


def test_a_container_that_starts_while_the_appliance_is_down_is_made_up_for(lab, h1):
    create(h1, "MyNet")
    run(h1, "stays", "MyNet")
    wait_agreement(lab, h1)
    h1.appliance.kill()
    starting = h1.popen(
        [
            "docker",
            "run",
            "-d",
            "--name",
            "late",
            "--net",
            "MyNet",
            "--stop-signal",
            "KILL",
            IMAGE,
            "sleep",
            "86400",
        ]
    )
    try:
        time.sleep(2)
        h1.appliance.start()
        starting.communicate(timeout=60)
    finally:
        kill_session(starting)
    assert starting.returncode == 0
    wait_agreement(lab, h1)
    wait_ping(h1, "late", "10.21.59.1")


def test_a_container_removed_while_the_appliance_is_down_is_released_long_before_the_audits_minute(
    lab, h1
):
    create(h1, "MyNet")
    run(h1, "stays", "MyNet")
    run(h1, "goes", "MyNet")
    wait_agreement(lab, h1)
    h1.appliance.kill()
    # The engine repeats its calls for a while, then goes on without the driver.
    h1.docker("rm", "-f", "goes", timeout=120)
    h1.appliance.start()
    wait_agreement(lab, h1, seconds=45.0)
    wait_ping(h1, "stays", "10.21.59.1")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_an_engine_that_ends_and_comes_back_has_its_containers_on_the_network_again(lab, h1, how):
    create(h1, "MyNet")
    run(h1, "web", "MyNet", "--restart=always")
    run(h1, "gone", "MyNet")
    wait_agreement(lab, h1)
    getattr(h1.engine, how)()
    h1.engine.start()
    deadline = time.monotonic() + 60
    while "web" not in h1.docker("ps", "--format", "{{.Names}}").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    wait_agreement(lab, h1)
    wait_ping(h1, "web", "10.21.59.1")


def test_rows_that_somebody_deletes_are_put_back(lab, h1):
    create(h1, "MyNet")
    run(h1, "web", "MyNet")
    wait_agreement(lab, h1)
    delete = json.dumps(
        [
            "Open_vSwitch",
            {"op": "delete", "table": "Nuage_VM_Table", "where": []},
            {"op": "delete", "table": "Nuage_Port_Table", "where": []},
        ]
    )
    h1.exec(["ovsdb-client", "transact", "unix:/run/openvswitch/db.sock", delete])
    h1.exec(["ovs-vsctl", "del-port", "alubr0", rows(h1, "Port", "name")[0][0]], check=False)
    wait_agreement(lab, h1)
    wait_ping(h1, "web", "10.21.59.1")


def test_a_restarted_ovsdb_server_is_followed(lab, h1):
    create(h1, "MyNet")
    run(h1, "web", "MyNet")
    wait_agreement(lab, h1)
    h1.database.stop()
    h1.database.start()
    run(h1, "next", "MyNet")
    wait_agreement(lab, h1)
    wait_ping(h1, "next", address_of(h1, "web", "MyNet"))


def test_the_same_network_on_two_hosts_reaches_across_with_addresses_that_never_collide(lab, h1):
    h2 = lab.host("h2")
    clean(h2)
    try:
        for host in (h1, h2):
            create(host, "MyNet")
            run(host, f"on-{host.name}", "MyNet", command=("httpd", "-f", "-h", "/www"))
        for host in (h1, h2):
            wait_agreement(lab, host)
        first, second = address_of(h1, "on-h1", "MyNet"), address_of(h2, "on-h2", "MyNet")
        assert first != second
        wait_ping(h1, "on-h1", second)
        wait_ping(h2, "on-h2", first)
        assert h1.docker(
            "exec", "on-h1", "timeout", "25", "wget", "-q", "-O", "-", f"http://{second}/"
        ).stdout
        assert h2.docker(
            "exec", "on-h2", "timeout", "25", "wget", "-q", "-O", "-", f"http://{first}/"
        ).stdout
    finally:
        clean(h2)
    wait_agreement(lab, h2)
