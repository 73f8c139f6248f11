"""The host's id on the VSD: where it comes from, and that it outlives the process."""

import logging

from nuage_appliance.core.host import HostIdentity


def test_the_id_is_made_of_host_name_and_system_id_and_is_there_again_after_a_restart(tmp_path):
    host = HostIdentity("", "alpha", str(tmp_path))
    host.recall()
    assert host.external_id == ""
    assert host.learn("system", "")
    assert host.external_id == "alpha-system"
    again = HostIdentity("", "alpha", str(tmp_path))
    again.recall()
    assert again.external_id == "alpha-system"
    assert not again.learn("system", "")


def test_a_configured_id_wins_over_system_id_and_file(tmp_path):
    HostIdentity("", "alpha", str(tmp_path)).learn("system", "")
    host = HostIdentity("mine", "alpha", str(tmp_path))
    host.recall()
    assert host.external_id == "mine"
    assert not host.learn("system", "")
    assert host.external_id == "mine"


def test_another_id_than_before_is_logged_with_the_key_that_keeps_the_old_one(tmp_path, caplog):
    HostIdentity("", "alpha", str(tmp_path)).learn("system", "")
    host = HostIdentity("", "beta", str(tmp_path))
    host.recall()
    with caplog.at_level(logging.ERROR):
        assert host.learn("system", "")
    assert host.external_id == "beta-system"
    assert 'hostid: "alpha-system"' in caplog.text


def test_a_file_that_is_no_text_or_cannot_be_written_is_no_reason_to_fail(tmp_path):
    (tmp_path / "host-id").write_bytes(b"\xff\xfe")
    host = HostIdentity("", "alpha", str(tmp_path))
    host.recall()
    assert host.external_id == ""
    (tmp_path / "file").write_text("")
    nowhere = HostIdentity("", "alpha", str(tmp_path / "file" / "below"))
    assert nowhere.learn("system", "")
    assert nowhere.external_id == "alpha-system"
