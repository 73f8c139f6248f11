"""The configuration file: the predecessor's samples load, what is wrong is named, credentials
are never shown.
"""

import base64
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nuage_appliance.config import KEYS, ConfigError, load, managed_settings, parse

ROOT = Path(__file__).resolve().parents[2]

_BASE = {
    "url": "https://vsd:8443",
    "username": "Y3Nwcm9vdA==",
    "password": "Y3Nwcm9vdA==",
    "organization": "Y3Nw",
}

PREDECESSOR_RPM = """
vrssocketfile:    "/var/run/openvswitch/db.sock"
dockersocketfile: "unix:///var/run/docker.sock"
vrsbridge:      "alubr0"
loglevel:       "Debug"
logfilesize:    10
scope:          "global"
numofretries:   5
timeinterval:   100
username: Y3Nwcm9vdA==
password: Y3Nwcm9vdA==
organization: Y3Nw
url: https://<VSD URL>:8443 
"""

PREDECESSOR_IMAGE = """
vrsendpoint:    "/var/run/openvswitch/db.sock"
dockerdndpoint: "unix:///var/run/docker.sock"
vrsbridge:      "alubr0"
loglevel:       "Warn"
scope:          "global"
numofretries:   5
timeinterval:   100
username: Y3Nwcm9vdA==
password: Y3Nwcm9vdA==
organization: Y3Nw
url: https://127.0.0.1:8443
"""


def text(**changes):
    return "\n".join(
        f"{key}: {value}" for key, value in {**_BASE, **changes}.items() if value is not None
    )


@pytest.mark.parametrize("sample", [PREDECESSOR_RPM, PREDECESSOR_IMAGE])
def test_the_samples_of_the_predecessor_load_unchanged(sample):
    config = parse(sample)
    assert (config.username, config.password, config.organization) == ("csproot", "csproot", "csp")
    assert (config.vrssocketfile, config.dockersocketfile) == (
        "/var/run/openvswitch/db.sock",
        "unix:///var/run/docker.sock",
    )
    assert (config.vrsbridge, config.scope, config.numofretries, config.timeinterval) == (
        "alubr0",
        "global",
        5,
        100,
    )


def test_a_placeholder_url_is_warned_about():
    assert any(
        "does not look like a host name" in warning for warning in parse(PREDECESSOR_RPM).warnings
    )


def test_defaults_are_the_predecessors():
    config = parse(text())
    assert (config.scope, config.loglevel, config.logfilesize, config.vrsbridge) == (
        "global",
        "warn",
        10,
        "alubr0",
    )
    assert (config.numofretries, config.timeinterval, config.pluginversion) == (5, 100, "v1")
    assert config.logfile == "/var/log/nuage-libnetwork/nuage-libnetwork.log"


def test_zero_means_the_default_as_with_the_predecessor():
    config = parse(text(logfilesize=0, numofretries=0, timeinterval=0))
    assert (config.logfilesize, config.numofretries, config.timeinterval) == (10, 5, 100)


@pytest.mark.parametrize(
    "written, api",
    [
        ("https://vsd:8443", "https://vsd:8443/nuage/api/v6"),
        ("https://vsd:8443/", "https://vsd:8443/nuage/api/v6"),
        ("https://vsd:8443/nuage/api/v5_0/", "https://vsd:8443/nuage/api/v5_0"),
        ("https://vsd", "https://vsd:8443/nuage/api/v6"),
        ('"https://[2001:db8::1]:8443"', "https://[2001:db8::1]:8443/nuage/api/v6"),
    ],
)
def test_the_url_may_have_the_api_path_or_not(written, api):
    assert parse(text(url=written)).vsd_api == api


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("url", "http://vsd:8443", "https"),
        ("url", "https://vsd:99999", "not a URL"),
        ("url", "https://u:p@vsd:8443", "credentials"),
        ("url", "https://vsd:8443/other", "path"),
        ("url", None, "missing"),
        ("url", '""', "missing"),
        ("scope", "globl", "local, global"),
        ("loglevel", "loud", "debug"),
        ("logfilesize", "-1", "from 1"),
        ("logfilesize", "many", "whole number"),
        ("numofretries", "-5", "from 1"),
        ("timeinterval", "true", "whole number"),
        ("pluginversion", "v3", "v1, v2"),
        ("vrsbridge", "a-very-long-bridge-name", "device name"),
        ("vrsbridge", "[1]", "not a text"),
        ("vrssocketfile", "db.sock", "absolute"),
        ("dockersocketfile", "http://x", "unix:///"),
        ("tlsverify", '"no"', "true or false"),
        ("tlsfingerprint", "abc", "64 hexadecimal"),
        ("mtu", "70000", "from 576"),
        ("hostid", '"a\\nb"', "control character"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(key, value, words):
    with pytest.raises(ConfigError) as caught:
        parse(text(**{key: value}))
    message = str(caught.value)
    assert key in message and words in message and "\n" not in message


@pytest.mark.parametrize("key", ["username", "password", "organization"])
@pytest.mark.parametrize(
    "value",
    [
        "hunter2!",
        '"not base64 %%%"',
        '""',
        "null",
        "12345",
        '"aHVudGVyMg"',
        '"/w=="',
        '"aGFsbG8KZHU="',
    ],
)
def test_a_wrong_credential_is_named_and_never_shown(key, value):
    with pytest.raises(ConfigError) as caught:
        parse(text(**{key: value}))
    message = str(caught.value)
    assert message.startswith(f"{key}:")
    assert value.strip('"') == "" or value == "null" or value.strip('"') not in message
    assert "hunter" not in message


def test_a_newline_at_the_end_of_a_credential_is_dropped():
    encoded = base64.b64encode(b"secret\n").decode()
    assert parse(text(password=encoded)).password == "secret"


def test_the_password_is_in_no_representation_of_the_configuration():
    encoded = base64.b64encode(b"very-secret-word").decode()
    assert "very-secret-word" not in repr(parse(text(password=encoded)))


def test_an_unknown_key_is_warned_about_with_the_nearest_known_one():
    warnings = parse(text(vrsbrigde="alubr0", zzz=1)).warnings
    assert any("'vrsbrigde'" in warning and "vrsbridge" in warning for warning in warnings)
    assert any("'zzz'" in warning for warning in warnings)


def test_two_spellings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="contradicts"):
        parse(text(vrssocketfile="/a", vrsendpoint="/b"))


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "just words",
        "a: [",
        "\tx: 1",
        "&a [*a]",
        "{" * 1200,
        "!!python/object/apply:os.system ['true']",
        '{tlsverify: !!bool "maybe"}',
        '{mtu: !!int ""}',
        '{mtu: !!timestamp "soon"}',
    ],
)
def test_a_document_that_is_no_configuration_is_refused_in_one_line(document):
    with pytest.raises(ConfigError) as caught:
        parse(document)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["url", "loglevel", "mtu", "tlsverify", "logfile"])
@pytest.mark.parametrize("value", ["*nine", "0x" + 6000 * "f"])
def test_a_value_that_is_too_long_to_be_written_is_refused_in_a_short_line(key, value):
    doubled = "".join(
        f"{name}: &{name} [{9 * f'*{before}, '}]\n"
        for before, name in itertools.pairwise(
            ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
        )
    )
    with pytest.raises(ConfigError, match=f"^{key}: a (list|number)") as caught:
        parse("one: &one [x]\n" + doubled + text(**{key: value}))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "url",
    [
        "https://admin:hunter/2@vsd:8443",
        "https://admin:hunter?2@vsd",
        "https://admin:hunter#2@vsd",
        "admin:hunter2@vsd:8443",
    ],
)
@pytest.mark.parametrize("key", ["url", "consul"])
def test_credentials_in_a_url_are_never_shown(key, url):
    with pytest.raises(ConfigError, match=f"^{key}: the URL holds credentials") as caught:
        parse(text(**{key: f'"{url}"'}))
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://vsd:0",
        "https://vsd/nuage/api/v6/enterprises",
        "https://vsd/nuage/api/../v6",
        '"https://vsd/nuage/api/v 6"',
    ],
)
def test_a_url_that_leads_to_no_vsd_is_refused(url):
    with pytest.raises(ConfigError, match=r"^url: .*write https://HOST:8443"):
        parse(text(url=url))


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "no certificate\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_a_ca_file_that_cannot_be_used_is_an_error_of_the_configuration(tmp_path, content):
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    (tmp_path / "config.yaml").write_text(text(cafile=tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"cafile: .* must be a file of PEM certificates"):
        load(str(tmp_path / "config.yaml"))


@pytest.mark.parametrize("path", ["missing.yaml", "."])
def test_a_configuration_file_that_cannot_be_read_is_named(tmp_path, path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path / path))


def test_a_configuration_that_nobody_writes_to_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="cannot be read: it must be a regular file"):
        load(str(tmp_path / "fifo"))
    (tmp_path / "config.yaml").write_text(text(cafile=tmp_path / "fifo"))
    with pytest.raises(ConfigError, match=r"cafile: .* must be a file of PEM certificates"):
        load(str(tmp_path / "config.yaml"))


def test_a_configuration_that_is_too_long_is_refused_instead_of_read_in_part(tmp_path):
    (tmp_path / "config.yaml").write_text(text() + (1 << 18) * "# x\n" + "\nmtu: 9000\n")
    with pytest.raises(ConfigError, match="longer than"):
        load(str(tmp_path / "config.yaml"))


# -- Consul --------------------------------------------------------------------------------------

_TOKEN = "9d1c1c1e-7a5f-4c1b-9c50-3f5d0a4a2b10"


@pytest.mark.parametrize(
    "written, read",
    [
        ("http://consul", "http://consul:8500"),
        ("https://consul.example.com:8501/", "https://consul.example.com:8501"),
        ("http://192.0.2.7:8500", "http://192.0.2.7:8500"),
        ('"http://[2001:db8::7]:8500"', "http://[2001:db8::7]:8500"),
    ],
)
def test_consuls_address_is_a_url_with_or_without_a_port(written, read):
    assert parse(text(consul=written)).consul == read


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("consul", "consul:8500", "http://HOST:8500"),
        ("consul", "ftp://consul", "http://HOST:8500"),
        ("consul", "http://consul/v1", "http://HOST:8500"),
        ("consul", "http://consul:99999", "http://HOST:8500"),
        ("consul", f"http://me:{_TOKEN}@consul:8500", "consultoken"),
        ("consul", "http://", "http://HOST:8500"),
        ("clustername", "a/b", "letters"),
        ("clustername", "a" * 65, "letters"),
        ("clustername", "ä", "letters"),
        ("hostgcafter", "59", "60 to 259200"),
        ("hostgcafter", "-1", "hostgcafter"),
        ("hostgcafter", "259201", "hostgcafter"),
        ("hostgcafter", "an hour", "hostgcafter"),
        ("consultoken", '"two\\nlines"', "ACL token"),
    ],
)
def test_a_wrong_value_about_consul_is_named_with_what_would_be_right(key, value, words):
    with pytest.raises(ConfigError) as error:
        parse(text(**{"consul": "http://consul", key: value}))
    message = str(error.value)
    assert key in message and words in message and "\n" not in message and _TOKEN not in message


def test_a_token_is_read_as_consul_shows_it_or_in_base64_and_is_in_no_representation():
    for written in (_TOKEN, base64.b64encode(_TOKEN.encode()).decode()):
        config = parse(text(consul="https://consul", consultoken=written))
        assert config.consultoken == _TOKEN
        assert _TOKEN not in repr(config) and _TOKEN[:8] not in repr(config) and not config.warnings
    assert (
        parse(text(consul="https://consul", consultoken="a-token-of-old")).consultoken
        == "a-token-of-old"
    )


def test_what_has_no_effect_or_is_read_by_others_is_warned_about():
    (warning,) = parse(text(hostgcafter="3600")).warnings
    assert "hostgcafter" in warning and "without consul" in warning
    (warning,) = parse(text(consul="http://consul", consultoken=_TOKEN)).warnings
    assert "clear text" in warning and _TOKEN not in warning
    assert (
        parse(text(consul="http://consul", hostgcafter="0", clustername="a.b-c_1")).warnings == ()
    )


@pytest.mark.parametrize(
    "changes, has_replicas, engine_scope",
    [
        ({"consul": "http://consul", "scope": "global"}, True, "local"),
        ({"consul": "http://consul"}, True, "local"),
        ({"consul": "http://consul", "scope": "local"}, False, "local"),
        ({"scope": "global"}, False, "global"),
        ({"consul": "http://consul", "scope": "global", "pluginversion": "v2"}, False, "global"),
    ],
)
def test_the_appliance_makes_replicas_only_where_nobody_else_does(
    changes, has_replicas, engine_scope
):
    config = parse(text(**changes))
    assert (config.has_replicas, config.engine_scope) == (has_replicas, engine_scope)


# -- a managed plugin ----------------------------------------------------------------------------

_MANAGED = {"NUAGE_MANAGED_PLUGIN": "yes"}


@pytest.fixture()
def written(tmp_path):
    """A configuration file that says otherwise."""
    path = tmp_path / "config.yaml"
    path.write_text(text(loglevel="Error", pluginversion="v1"))
    return str(path)


def test_a_managed_plugin_has_one_socket_and_the_log_level_of_its_settings(written):
    for level, read in ((None, "error"), ("", "error"), ("Debug", "debug"), ("warn", "warn")):
        config = load(written, _MANAGED if level is None else {**_MANAGED, "LOGLEVEL": level})
        assert (config.pluginversion, config.loglevel) == ("v2", read)


def test_the_settings_of_a_managed_plugin_mean_nothing_elsewhere(written):
    foreign = {"CONFIG": "/etc/other", "LOGLEVEL": "loud", "NUAGE_MANAGED_PLUGIN": ""}
    config = load(written, foreign)
    assert (config.pluginversion, config.loglevel) == ("v1", "error")
    assert managed_settings(foreign) is None
    assert managed_settings({**_MANAGED, "CONFIG": "/etc/other", "LOGLEVEL": "", "OTHER": "x"}) == {
        "CONFIG": "/etc/other"
    }


def test_a_wrong_log_level_of_a_managed_plugin_is_named_as_its_setting(written):
    with pytest.raises(ConfigError) as caught:
        load(written, {**_MANAGED, "LOGLEVEL": "loud"})
    assert (
        str(caught.value)
        == "LOGLEVEL: 'loud' is not known; it must be one of debug, info, warn, error"
    )


def test_a_key_that_is_written_twice_is_warned_about():
    assert (
        "the configuration key 'mtu' is written 2 times; the last one counts"
        in parse(PREDECESSOR_IMAGE + "mtu: 1400\nmtu: 1500\n").warnings
    )


def test_credentials_in_a_url_are_not_shown_whatever_else_is_wrong_with_it():
    with pytest.raises(ConfigError, match=r"^url: the value holds a control character") as refusal:
        parse(PREDECESSOR_IMAGE + 'url: "https://admin:secret\\nx@vsd:8443"\n')
    assert "secret" not in str(refusal.value)


def test_sample_file_readme_and_man_page_say_what_the_declarations_of_the_keys_say():
    command = [sys.executable, str(ROOT / "build/config_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_key_says_what_it_means_and_its_unit():
    for key in KEYS.values():
        assert key.help[0].isupper() or key.help[0] == "`", key.name
        assert key.help.endswith("."), key.name
        assert ("{unit}" in key.help) == bool(key.unit), key.name
        is_number = isinstance(key.default, int) and not isinstance(key.default, bool)
        assert not is_number or key.unit or key.name == "numofretries", key.name


def test_a_default_is_a_value_that_its_own_rule_takes():
    for key in KEYS.values():
        if not key.is_required and key.default != "":
            assert key.rule(key.name, key.default) == key.default
