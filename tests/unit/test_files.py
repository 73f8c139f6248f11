"""Files that the product writes and reads again: replaced as a whole, and nothing stays behind."""

import contextlib
import os
import resource
import stat

import pytest

from nuage_appliance.base import files
from nuage_appliance.base.state_file import StateFile
from nuage_appliance.core.host import HostIdentity


@contextlib.contextmanager
def a_full_disk():
    """No file of this process can grow inside the block: a write fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_replaced_file_has_the_new_text_and_nothing_beside_it(tmp_path):
    target = tmp_path / "new" / "state"
    files.replace(str(target), "first")
    files.replace(str(target), "zwei \N{EURO SIGN}")
    assert target.read_text(encoding="utf-8") == "zwei \N{EURO SIGN}"
    assert os.listdir(target.parent) == ["state"]


def test_a_write_that_fails_keeps_the_old_text_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "state"
    files.replace(str(target), "before")
    with a_full_disk(), pytest.raises(OSError):
        files.replace(str(target), "after")
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["state"]


def test_a_name_that_cannot_be_taken_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "state"
    target.mkdir()
    with pytest.raises(OSError):
        files.replace(str(target), "text")
    assert os.listdir(tmp_path) == ["state"]


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_private_an_old_one_keeps_its_mode_and_a_given_mode_counts(tmp_path):
    target = tmp_path / "state"
    files.replace(str(target), "text")
    assert mode_of(target) == 0o600
    target.chmod(0o640)
    files.replace(str(target), "text")
    assert mode_of(target) == 0o640
    files.replace(str(target), "text", mode=0o644)
    assert mode_of(target) == 0o644


def test_a_state_file_on_a_full_disk_leaves_nothing_behind_and_keeps_what_it_had(tmp_path):
    state = StateFile(str(tmp_path / "held.json"))
    state.save({"network": "1"})
    with a_full_disk():
        for _ in range(6):
            state.save({"network": "2"})
    assert state.load() == {"network": "1"}
    assert os.listdir(tmp_path) == ["held.json"]


def test_a_host_id_on_a_full_disk_leaves_nothing_behind(tmp_path):
    host = HostIdentity("", "host-1", str(tmp_path))
    with a_full_disk():
        for _ in range(6):
            host.learn("system", "")
            assert host.external_id == "host-1-system"
    assert os.listdir(tmp_path) == []
    host.learn("system", "")
    next_life = HostIdentity("", "host-1", str(tmp_path))
    next_life.recall()
    assert next_life.external_id == "host-1-system"


def test_a_state_file_is_read_whole_however_large_it_is(tmp_path):
    """4,096 releases with PoolIDs of 300 characters are more than a MiB."""
    values = {f"{number:0300d}": "10.21.59.2" for number in range(4096)}
    StateFile(str(tmp_path / "releases.json")).save(values)
    assert StateFile(str(tmp_path / "releases.json")).load() == values


@pytest.mark.parametrize("damage", [b"{", b"[]", b"\xff{}", b"[" * 100_000, b""])
def test_a_damaged_state_file_is_set_aside_and_named_in_the_log(tmp_path, caplog, damage):
    path = tmp_path / "held.json"
    path.write_bytes(damage)
    state = StateFile(str(path))
    assert state.load() == {}
    assert (tmp_path / "held.json.damaged").read_bytes() == damage
    assert "held.json is damaged" in caplog.text and "set aside as" in caplog.text
    state.save({"network": "1"})
    assert state.load() == {"network": "1"}
    assert sorted(os.listdir(tmp_path)) == ["held.json", "held.json.damaged"]


def test_a_state_file_that_is_not_there_is_no_damage(tmp_path, caplog):
    assert StateFile(str(tmp_path / "held.json")).load() == {}
    assert caplog.text == "" and os.listdir(tmp_path) == []
