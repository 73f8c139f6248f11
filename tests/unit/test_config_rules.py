"""The rules of the configuration's values at their edges, and the whole sentence of a refusal."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nuage_appliance
from nuage_appliance.config import ConfigError, load, managed_settings, parse, rules
from nuage_appliance.config.keys import KEYS

_LINES = {"url": "https://vsd:8443", "username": "dQ==", "password": "cA==", "organization": "b3Jn"}


def _text(**changes):
    lines = {**_LINES, **changes}
    return "\n".join(f"{key}: {value}" for key, value in lines.items() if value is not None)


def _b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _refusal(rule, value):
    with pytest.raises(ConfigError) as caught:
        rule("key", value)
    return str(caught.value)


# -- what a message shows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, shown",
    [
        (None, "nothing"),
        ({}, "a dict"),
        ([1], "a list"),
        ({1}, "a set"),
        ("a@b", "the value"),
        (1 << 255, repr(1 << 255)),
        (1 << 256, "a number of more than 77 digits"),
        ("x" * 78, f"'{'x' * 78}'"),
        ("x" * 79, f"'{'x' * 76}…"),
        (True, "True"),
        (7, "7"),
    ],
)
def test_a_value_is_shown_in_one_short_form(value, shown):
    # A number of 256 bits has 77 digits and is still shown whole.
    assert rules.shown(value) == shown


# -- rules ---------------------------------------------------------------------------------------


def test_a_text_is_printable_and_loses_the_blanks_around_it():
    assert rules.text("key", " a b ") == "a b"
    assert rules.text("key", "a\n") == "a"
    for value in ("", " ", 7, None):
        assert _refusal(rules.text, value) == (
            f'key: {rules.shown(value)} is not a text; write key: "…"'
        )
    assert _refusal(rules.text, "a\x00b") == (
        r"key: 'a\x00b' holds a control character; write it on one line"
    )


_HINT = "write its base64 form, as `printf %s VALUE | base64` prints it"


def test_a_credential_is_decoded_and_loses_its_last_line_end():
    assert rules.credential("key", _b64("pässword")) == "pässword"
    assert rules.credential("key", _b64("word\r\n")) == "word"
    assert rules.credential("key", _b64("wordX")) == "wordX"
    assert rules.credential("key", _b64("word ")) == "word "
    assert rules.credential("key", "d29y\n  ZA==") == "word"


@pytest.mark.parametrize(
    "value, words",
    [
        (None, "the value is missing or not a text"),
        (7, "the value is missing or not a text"),
        (" ", "the value is missing or not a text"),
        ("secret!", "the value is not base64 of a UTF-8 text"),
        ("d29yZA", "the value is not base64 of a UTF-8 text"),
        ("d29y-A==", "the value is not base64 of a UTF-8 text"),
        ("d2!9yZA==", "the value is not base64 of a UTF-8 text"),
        (_b64(b"\xff\xfe"), "the value is not base64 of a UTF-8 text"),
        (_b64("\n"), "the decoded value is empty or holds a control character"),
        (_b64("a\x01b"), "the decoded value is empty or holds a control character"),
        (_b64("\nword"), "the decoded value is empty or holds a control character"),
    ],
)
def test_a_wrong_credential_has_its_sentence_and_is_not_in_it(value, words):
    assert _refusal(rules.credential, value) == f"key: {words}; {_HINT}"


def test_a_choice_is_one_of_its_words_in_any_case():
    rule = rules.choice("one", "two")
    assert [rule("key", word) for word in ("one", " TWO ")] == ["one", "two"]
    assert _refusal(rule, "three") == "key: 'three' is not known; it must be one of one, two"
    assert _refusal(rule, True) == "key: True is not known; it must be one of one, two"
    assert _refusal(rules.choice("xxxx"), 7).endswith("it must be one of xxxx")


def test_a_number_is_whole_and_in_its_range():
    rule = rules.number(2, 2_000_000_000)
    assert [rule("key", value) for value in (2, "3", " 4 ", 2_000_000_000)] == [
        2,
        3,
        4,
        2_000_000_000,
    ]
    assert rule("key", "999999999") == 999_999_999
    for value in (True, None, 2.5, "x", "-3", "1000000000"):
        assert _refusal(rule, value) == (
            f"key: {rules.shown(value)} is not a whole number from 2 to 2000000000"
        )
    for value in (1, 0, 2_000_000_001):
        assert _refusal(rule, value) == (
            f"key: {value} is out of range; it must be from 2 to 2000000000"
        )


def test_a_zero_may_stand_for_another_number():
    assert rules.number(5, 9, zero_is=7)("key", 0) == 7
    assert rules.number(5, 9, zero_is=0)("key", "0") == 0
    assert rules.number(0, 9)("key", 0) == 0
    assert "out of range" in _refusal(rules.number(5, 9, zero_is=7), 4)


def test_a_lost_host_is_given_at_least_a_minute():
    assert [rules.gc_after("key", value) for value in (False, 0, 60, 259_200)] == [
        0,
        0,
        60,
        259_200,
    ]
    for value in (1, 59):
        assert _refusal(rules.gc_after, value) == (
            f"key: {value} is too short; a host that restarts needs a minute, "
            "so write 0 (never) or 60 to 259200 seconds"
        )
    assert _refusal(rules.gc_after, 259_201) == (
        "key: 259201 is out of range; it must be from 0 to 259200"
    )
    assert "not a whole number" in _refusal(rules.gc_after, True)


def test_a_flag_is_true_or_false():
    assert [rules.flag("key", value) for value in (True, False)] == [True, False]
    assert _refusal(rules.flag, 1) == "key: 1 is not true or false"


def test_a_path_is_absolute():
    assert rules.path("key", " /a ") == "/a"
    assert _refusal(rules.path, "a") == "key: 'a' is not an absolute path; it must start with /"
    assert _refusal(rules.path, 7).startswith("key: 7 is not a text")


def test_an_ovsdb_address_is_a_path_or_tcp():
    for address in ("/a", "unix:/a", "tcp:1.2.3.4:6640"):
        assert rules.ovsdb("key", address) == address
    assert _refusal(rules.ovsdb, "ssl:x") == (
        "key: 'ssl:x' is neither an absolute path nor tcp:ADDRESS:PORT"
    )
    assert _refusal(rules.ovsdb, 7).startswith("key: 7 is not a text")


def test_an_engines_address_may_be_a_path_alone():
    assert rules.engine("key", "/a") == "unix:///a"
    for address in ("unix:///a", "tcp://h:1"):
        assert rules.engine("key", address) == address
    for value in ("unix://a", "http://h"):
        assert _refusal(rules.engine, value) == (
            f"key: '{value}' is not an engine address; "
            "write unix:///var/run/docker.sock or tcp://HOST:PORT"
        )
    assert _refusal(rules.engine, 7).startswith("key: 7 is not a text")


def test_a_fingerprint_is_64_digits_however_it_is_written():
    digits = "0123456789abcdef" * 4
    colons = ":".join(re.findall("..", digits.upper()))
    blanks = "SHA256:" + " ".join(re.findall("..", digits))
    for value in (digits, colons, blanks):
        assert rules.fingerprint("key", value) == digits
    for value in (digits[1:], digits + "0", "g" + digits[1:], digits + "sha256:"):
        assert _refusal(rules.fingerprint, value) == (
            f"key: {rules.shown(value)} is not a SHA-256 fingerprint of 64 hexadecimal digits"
        )
    assert _refusal(rules.fingerprint, 7).startswith("key: 7 is not a text")


def test_a_device_has_a_name_that_the_kernel_takes():
    for name in ("alubr0", "x" * 15, "ä" * 7):
        assert rules.device("key", name) == name
    for name in ("x" * 16, "ä" * 8, "a/b", "a b"):
        assert _refusal(rules.device, name) == (
            f"key: '{name}' is not a device name; "
            "it has at most 15 characters, no blank and no slash"
        )
    assert _refusal(rules.device, 7).startswith("key: 7 is not a text")


@pytest.mark.parametrize(
    "written, read",
    [
        ("https://vsd", "https://vsd:8443/nuage/api/v6"),
        ("https://vsdX", "https://vsdx:8443/nuage/api/v6"),
        ("https://vsd:9/", "https://vsd:9/nuage/api/v6"),
        ("https://VSD/nuage/api/v5_0", "https://vsd:8443/nuage/api/v5_0"),
        ("https://vsd/nuage/api/v5.0", "https://vsd:8443/nuage/api/v5.0"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:8443/nuage/api/v6"),
    ],
)
def test_the_vsds_url_gets_port_and_path(written, read):
    assert rules.vsd_url("key", written) == read


_EXAMPLE = "https://HOST:8443"
_PATH = f"has a path that is not the VSD's; write {_EXAMPLE} or {_EXAMPLE}/nuage/api/v6"


@pytest.mark.parametrize(
    "value, words",
    [
        (
            "https://u:p@vsd",
            f"the URL holds credentials; write {_EXAMPLE} and use the keys username and password",
        ),
        ("http://vsd", f"'http://vsd' is not an https URL; write {_EXAMPLE}"),
        ("https://", f"'https://' is not an https URL; write {_EXAMPLE}"),
        ("https://vsd:0", f"'https://vsd:0' has the port 0; write {_EXAMPLE}"),
        ("https://vsd/a", f"'https://vsd/a' {_PATH}"),
        ("https://vsd/nuage/api/v6/x", f"'https://vsd/nuage/api/v6/x' {_PATH}"),
        ("https://vsd/nuage/api/é", f"'https://vsd/nuage/api/é' {_PATH}"),
        ("https://vsd/nuage/api/v6?a=b", f"'https://vsd/nuage/api/v6?a=b' {_PATH}"),
        ("https://vsd/nuage/api/v6#a", f"'https://vsd/nuage/api/v6#a' {_PATH}"),
    ],
)
def test_a_url_that_is_not_the_vsds_has_its_sentence(value, words):
    assert _refusal(rules.vsd_url, value) == f"key: {words}"


def test_a_url_whose_port_is_no_number_says_what_python_says():
    assert re.fullmatch(
        r"key: 'https://vsd:99999' is not a URL \(Port .*\); write https://HOST:8443",
        _refusal(rules.vsd_url, "https://vsd:99999"),
    )
    assert _refusal(rules.vsd_url, 7).startswith("key: 7 is not a text")


_CONSUL = "http://HOST:8500 or https://HOST:8501"


@pytest.mark.parametrize(
    "written, read",
    [
        ("http://c", "http://c:8500"),
        ("https://c:8501/", "https://c:8501"),
        ("http://[2001:db8::1]", "http://[2001:db8::1]:8500"),
    ],
)
def test_consuls_url_gets_its_port(written, read):
    assert rules.consul_url("key", written) == read


@pytest.mark.parametrize(
    "value, words",
    [
        (
            "http://u:p@c",
            f"the URL holds credentials; write {_CONSUL} and use the key consultoken",
        ),
        ("ftp://c", f"'ftp://c' is not Consul's address; write {_CONSUL}"),
        ("http://", f"'http://' is not Consul's address; write {_CONSUL}"),
        ("http://c/a", f"'http://c/a' is not Consul's address; write {_CONSUL}"),
        ("http://c?a=b", f"'http://c?a=b' is not Consul's address; write {_CONSUL}"),
        ("http://c#a", f"'http://c#a' is not Consul's address; write {_CONSUL}"),
        ("http://c:0", f"'http://c:0' has the port 0; write {_CONSUL}"),
    ],
)
def test_a_url_that_is_not_consuls_has_its_sentence(value, words):
    assert _refusal(rules.consul_url, value) == f"key: {words}"


_UUID = "01234567-89ab-cdef-0123-456789abcdef"


def test_a_token_may_be_a_uuid_in_base64():
    assert rules.token("key", f" {_UUID} ") == _UUID
    assert rules.token("key", _b64(_UUID + "\n")) == _UUID
    assert rules.token("key", "x" * 1024) == "x" * 1024
    dashed = f"{_b64(_UUID)[:8]}-{_b64(_UUID)[8:]}"
    for word in (_b64("no uuid"), _b64(b"\xff"), dashed):
        assert rules.token("key", word) == word


@pytest.mark.parametrize("value", [None, 7, "", " ", "x" * 1025, "é", "a\x01b"])
def test_a_wrong_token_is_not_shown(value):
    assert _refusal(rules.token, value) == (
        "key: the value is not an ACL token; write it as Consul shows it, in one line"
    )


def test_a_clusters_name_can_be_a_part_of_a_key():
    for name in ("x" * 64, "a-b_c.d9"):
        assert rules.cluster_name("key", name) == name
    for name in ("x" * 65, "é", "a/b", "a b"):
        assert _refusal(rules.cluster_name, name) == (
            f"key: '{name}' is not a cluster's name; "
            "it has 1 to 64 letters, digits, '-', '_' and '.'"
        )
    assert _refusal(rules.cluster_name, 7).startswith("key: 7 is not a text")


# -- the file ------------------------------------------------------------------------------------


def _parse_refusal(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize("key", [key.name for key in KEYS.values() if key.is_required])
@pytest.mark.parametrize("value", [None, "", '""'])
def test_a_required_key_that_is_missing_or_empty_has_its_hint(key, value):
    hint = "write https://HOST:8443" if key == "url" else "write its base64 form"
    assert _parse_refusal(_text(**{key: value})) == f"{key}: the key is missing or empty; {hint}"


def test_a_key_that_is_empty_has_its_default():
    config = parse(_text(mtu="", scope='""'))
    assert (config.mtu, config.scope) == (KEYS["mtu"].default, KEYS["scope"].default)


def test_a_file_that_is_not_yaml_says_where():
    assert _parse_refusal("url: x\nfoo: [") == (
        "the file is not valid YAML in line 2: expected the node content, "
        "but found '<stream end>'; each line must be KEY: VALUE"
    )
    assert _parse_refusal("a: \x01") == (
        "the file is not valid YAML: it cannot be parsed; each line must be KEY: VALUE"
    )
    assert _parse_refusal("a: !!bool maybe") == (
        "the file is not valid YAML; each line must be KEY: VALUE"
    )
    assert _parse_refusal("- a") == "the file holds list instead of lines KEY: VALUE"


def test_a_key_that_is_written_twice_is_counted_and_the_last_one_counts():
    config = parse(_text() + "\nmtu: 1400\nmtu: 1500\nmtu: 1600")
    assert config.mtu == 1600
    assert config.warnings == (
        "the configuration key 'mtu' is written 3 times; the last one counts",
    )


def test_an_unknown_key_is_ignored_with_the_nearest_one_as_a_hint():
    config = parse(_text(port=7, tlsverifi="true", dockersocketfil="x", qqq=1) + "\n7: x")
    assert config.warnings == (
        "the configuration key 'tlsverifi' is not known and is ignored; did you mean tlsverify?",
        "the configuration key 'dockersocketfil' is not known and is ignored; "
        "did you mean dockersocketfile?",
        "the configuration key 'qqq' is not known and is ignored",
        "the configuration key 7 is not known and is ignored",
    )


def test_two_spellings_of_one_key_may_agree_and_not_contradict():
    alias, name = "vrsendpoint", "vrssocketfile"
    assert parse(_text(**{alias: "/a", name: "/a"})).vrssocketfile == "/a"
    assert _parse_refusal(_text(**{alias: "/a", name: "/b"})) == (
        f"{name}: '/b' contradicts {alias}: '/a'; they are one setting, write it once"
    )
    assert _parse_refusal(_text(**{alias: "a"})).startswith(f"{alias}: 'a' is")


def test_what_is_likely_wrong_is_warned_about():
    warnings = parse(_text(url="https://<VSD>:8443", tlsverify="false")).warnings
    assert warnings == (
        "url: '<vsd>' does not look like a host name; write the address of your VSD",
        "tlsverify is false: the VSD's certificate is not checked "
        "and anybody on the path can read the credentials",
    )
    for host in ("a.b-c_d", "[2001:db8::1]", "10.0.0.1"):
        assert parse(_text(url=f"https://{host}:8443", tlsverify="true")).warnings == ()


def test_a_key_without_the_one_that_it_needs_is_warned_about():
    assert parse(_text(consultoken="t")).warnings == ("consultoken has no effect without consul",)
    assert parse(_text(consul="https://c:8501", consultoken="t")).warnings == ()
    assert parse(_text(consul="http://c", consultoken="t")).warnings == (
        "consul is an http address: the token crosses the network in clear text",
    )
    assert parse(_text(consul="http://c")).warnings == ()


def test_the_settings_of_a_managed_plugin_are_those_that_are_not_empty():
    marked = {"NUAGE_MANAGED_PLUGIN": "1", "CONFIG": "/c", "LOGLEVEL": "", "OTHER": "x"}
    assert managed_settings(marked) == {"CONFIG": "/c"}
    assert managed_settings({**marked, "CONFIG": "", "LOGLEVEL": "debug"}) == {"LOGLEVEL": "debug"}
    assert managed_settings({"CONFIG": "/c"}) is None


def test_a_managed_plugin_has_one_socket_and_keeps_the_files_log_level(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(_text(loglevel="info"))
    marked = {"NUAGE_MANAGED_PLUGIN": "1"}
    config = load(str(file), {})
    assert (config.pluginversion, config.loglevel) == ("v1", "info")
    config = load(str(file), marked)
    assert (config.pluginversion, config.loglevel) == ("v2", "info")
    assert load(str(file), {**marked, "LOGLEVEL": "debug"}).loglevel == "debug"
    with pytest.raises(ConfigError, match=r"^LOGLEVEL: 'loud' is not known"):
        load(str(file), {**marked, "LOGLEVEL": "loud"})


def _load_refusal(path):
    with pytest.raises(ConfigError) as caught:
        load(str(path), {})
    return str(caught.value)


def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path):
    file = tmp_path / "c.yaml"
    unreadable = "cannot be read"
    assert _load_refusal(file) == (
        f"the configuration file {file} {unreadable}: No such file or directory"
    )
    assert _load_refusal(tmp_path) == (
        f"the configuration file {tmp_path} {unreadable}: it must be a regular file"
    )
    file.write_bytes(b"url: \xff")
    assert _load_refusal(file) == f"the configuration file {file} is not UTF-8 text"
    file.write_text("scope: x")
    assert _load_refusal(file).startswith(f"{file}: url: the key is missing")


def test_a_file_is_read_as_utf_8_whatever_the_locale(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes(_text(hostid="ä").encode())
    program = "import sys; from nuage_appliance.config import load; print(ascii(load(sys.argv[1])))"
    product = Path(nuage_appliance.__file__).parents[1]  # the one that is tried here
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        env={**os.environ, **ascii_only, "PYTHONPATH": str(product)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert r"hostid='\xe4'" in done.stdout, done.stderr


def test_a_file_of_a_mebibyte_is_the_longest(tmp_path):
    file = tmp_path / "c.yaml"
    # What is read is refused for its first character, which takes less time than a whole mebibyte.
    file.write_text("@".ljust(1 << 20))
    assert "not valid YAML" in _load_refusal(file)
    file.write_text(_text().ljust((1 << 20) + 1))
    assert _load_refusal(file) == (
        f"the configuration file {file} is longer than 1048576 characters; "
        "it must be lines KEY: VALUE"
    )


@pytest.mark.parametrize("key", ["cafile", "consulcafile"])
def test_a_file_of_certificates_must_be_one(tmp_path, key):
    file, ca = tmp_path / "c.yaml", tmp_path / "ca.pem"
    needs = {"consul": "https://c:8501"} if key == "consulcafile" else {}
    file.write_text(_text(**{key: ca}, **needs))
    what = "it must be a file of PEM certificates"
    assert _load_refusal(file) == (
        f"{file}: {key}: {ca} cannot be used (No such file or directory); {what}"
    )
    os.mkfifo(ca)
    assert _load_refusal(file) == f"{file}: {key}: {ca} cannot be used (not a regular file); {what}"
    ca.unlink()
    ca.write_text("nothing")
    assert re.fullmatch(
        re.escape(f"{file}: {key}: {ca} cannot be used (") + r".+" + re.escape(f"); {what}"),
        _load_refusal(file),
    )


# -- what follows from the values ----------------------------------------------------------------


def test_the_vsds_address_has_no_path():
    config = parse(_text(url="https://vsd:9/nuage/api/v5_0"))
    assert (config.vsd_root, config.vsd_api) == ("https://vsd:9", "https://vsd:9/nuage/api/v5_0")


@pytest.mark.parametrize(
    "changes, has_replicas, scope",
    [
        ({}, False, "global"),
        ({"consul": "http://c"}, True, "local"),
        ({"consul": "http://c", "scope": "local"}, False, "local"),
        ({"consul": "http://c", "pluginversion": "v2"}, False, "global"),
    ],
)
def test_replicas_are_made_with_consul_and_two_sockets_only(changes, has_replicas, scope):
    config = parse(_text(**changes))
    assert (config.has_replicas, config.engine_scope) == (has_replicas, scope)


def test_changed_keys_are_those_that_differ_in_their_order():
    one, other = parse(_text()), parse(_text(mtu=1400, url="https://other:8443"))
    assert [key.name for key in one.changed_keys(other)] == ["url", "mtu"]
    assert one.changed_keys(one) == ()
