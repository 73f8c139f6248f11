"""Who takes part in a cluster of hosts: cluster names, scope local, Consul's tokens and
certificates.
"""

import contextlib
import json
import socket

import pytest

from tests.support.appliance import PATIENCE_S, encode
from tests.support.cluster import INTERVAL_S, ROOT, Site, wait
from tests.support.consul import RULES, Consul
from tests.support.host import VSD_ADDRESS
from tests.support.scripted_engine import OPTIONS

# -- clusters, tokens, certificates ---------------------------------------------------------------


def test_another_clustername_is_another_world(site, pair, hosts):
    stranger = hosts(
        scope="global", consul=site.consul.url, clustername="elsewhere", auditinterval=INTERVAL_S
    )
    site.create(pair[0], "ours")
    site.create(stranger, "theirs")
    site.wait_everywhere("ours")
    wait(
        lambda: site.consul.get(f"{ROOT}/elsewhere/networks/theirs"),
        "the record of the other cluster",
        stranger,
    )
    site.create(pair[0], "later")
    site.wait_everywhere("later")
    assert {item["Name"] for item in stranger.api.networks.values()} == {"theirs"}
    assert all(
        {item["Name"] for item in host.api.networks.values()} == {"ours", "later"} for host in pair
    )
    wait(
        lambda: (
            set(site.component(stranger)["hosts"]) == {stranger.name}
            and set(site.component(pair[0])["hosts"]) == {host.name for host in pair}
        ),
        "each sees only its own hosts",
        stranger,
    )
    stranger.tear_down()


def test_scope_local_publishes_nothing_and_registers_the_host_nevertheless(site, pair, hosts):
    alone = hosts(
        scope="local", consul=site.consul.url, clustername="local-only", auditinterval=INTERVAL_S
    )
    site.create(alone, "mine")
    wait(
        lambda: f"{ROOT}-local-only-{alone.name}" in site.consul.checks(), "the registration", alone
    )
    assert (
        not site.consul.keys(f"{ROOT}/local-only/networks/")
        and site.component(alone)["networks"] == {}
    )
    alone.tear_down()


@pytest.fixture(scope="module")
def guarded(simulator):
    """A Consul with ACLs and TLS, and one host that uses it."""
    consul = Consul(acl=True, tls=True)
    token = consul.make_token(RULES)
    made = Site(
        simulator, 1, consul, consulcafile=consul.ca_file, consultoken=encode(token), hostgcafter=60
    )
    made.token = token
    yield made
    made.close()


def _restarted_with(site, **settings):
    host = site.hosts[0]
    host.appliance.kill()
    host.appliance.write(**settings)
    host.restart()
    return host


def test_the_documented_rights_and_the_ca_are_enough(guarded):
    (host,) = guarded.hosts
    guarded.create(host, "safe")
    wait(lambda: guarded.record("safe"), "the record", host)
    wait(
        lambda: [state for state, _ in guarded.consul.checks().values()] == ["passing"],
        "the check passes",
        host,
    )
    wait(lambda: guarded.component(host)["is_elected"], "the election", host)
    wait(lambda: guarded.component(host)["problem"] == "", "no problem", host)
    host.tear_down()
    wait(lambda: guarded.record("safe")["state"] == "removed", "the removal", host)
    host = _restarted_with(guarded, consultoken=guarded.token)
    wait(
        lambda: guarded.component(host)["hosts"] and guarded.component(host)["problem"] == "",
        "the token in clear text does, too",
        host,
    )


def test_without_a_ca_of_its_own_the_hosts_cas_are_asked(guarded):
    """Also by the frozen program, which brings CAs of its own along."""
    host, cafile = guarded.hosts[0], guarded.hosts[0].appliance.settings.pop("consulcafile")
    host.appliance.environment_added["SSL_CERT_FILE"] = guarded.consul.ca_file
    try:
        host = _restarted_with(guarded)
        wait(
            lambda: guarded.component(host)["hosts"] and guarded.component(host)["problem"] == "",
            "Consul is trusted",
            host,
        )
    finally:
        del host.appliance.environment_added["SSL_CERT_FILE"]
        _restarted_with(guarded, consulcafile=cafile)


@pytest.mark.parametrize(
    "trouble, words",
    [
        ("wrong token", ("refuses the token of consultoken",)),
        ("no token", ("consultoken", "key_prefix")),
        ("no rights", ("refuses the token of consultoken", "key_prefix")),
        ("reads only", ("refuses the token of consultoken", "key_prefix")),
        ("no ca", ("cannot be trusted", "consulcafile")),
    ],
)
def test_what_consul_does_not_allow_is_one_clear_sentence_and_the_token_is_nowhere(
    guarded, trouble, words
):
    secret = {
        "wrong token": "11111111-2222-3333-4444-555555555555",
        "no rights": guarded.consul.make_token(""),
        "reads only": guarded.consul.make_token(
            RULES.replace(
                'nuage-libnetwork/" { policy = "write"', 'nuage-libnetwork/" { policy = "read"'
            )
        ),
    }.get(trouble)
    before = {
        key: guarded.hosts[0].appliance.settings[key] for key in ("consultoken", "consulcafile")
    }
    changed = (
        {"consulcafile": ""}
        if trouble == "no ca"
        else {"consultoken": encode(secret) if secret else ""}
    )
    host = guarded.hosts[0]
    for key in changed:
        if not changed[key]:
            del host.appliance.settings[key]
    host = _restarted_with(guarded, **{key: value for key, value in changed.items() if value})
    try:
        guarded.create(host, "local only")
        problem = wait(
            lambda: "reached yet" not in (text := guarded.component(host)["problem"]) and text,
            "the sentence",
            host,
        )
        for word in words:
            assert word in problem, problem
        assert problem.count(". ") == 0 and len(problem) < 400, problem
        endpoint = host.engine.run("c", next(iter(host.api.networks)))
        host.wait_attached(endpoint)
        host.engine.stop(endpoint)
        for token in filter(None, (secret, guarded.token)):
            for text in (
                json.dumps(host.appliance.status()),
                host.appliance.log(),
                host.appliance.errors(),
            ):
                assert token not in text and encode(token) not in text
    finally:
        host.tear_down()
        _restarted_with(guarded, **before)


def test_the_token_is_sent_in_a_header_and_in_no_url(hosts):
    requests = []
    with socket.socket() as listener:
        listener.bind((VSD_ADDRESS, 0))
        listener.listen(64)
        listener.settimeout(PATIENCE_S)
        address = listener.getsockname()
        host = hosts(
            scope="global",
            consul=f"http://{address[0]}:{address[1]}",
            consultoken=encode("5ec7e75e-c7e7-45ec-87e7-5ec7e75ec7e7"),
            hostgcafter=60,
        )
        host.engine.network_create("n", {**OPTIONS, "subnet": "Net 0"})
        while len(requests) < 8:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                with contextlib.suppress(OSError):
                    requests.append(connection.recv(65536).decode())
                    connection.sendall(
                        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 36\r\n"
                        b"Connection: close\r\n\r\n5ec7e75e-c7e7-45ec-87e7-5ec7e75ec7e7"
                    )
        lines = [request.splitlines() for request in requests if request]
        assert lines and all("5ec7e75e" not in one[0] for one in lines), lines
        assert all(
            any(
                line.lower() == "x-consul-token: 5ec7e75e-c7e7-45ec-87e7-5ec7e75ec7e7"
                for line in one
            )
            for one in lines
        )
        host.tear_down()
