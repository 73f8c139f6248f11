"""A unix socket to listen at: what may be replaced, what not, and what is removed at the end."""

import os
import socket
import stat

import pytest

from nuage_appliance.base.faults import Refused
from nuage_appliance.base.unix_socket import UnixSocket, is_served


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "x.sock"


def bound(path):
    """A bound socket and its listener."""
    made = UnixSocket("plugin socket", str(path))
    return made, made.bind(8)


def test_only_the_owner_may_connect(path):
    made, listener = bound(path)
    with listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert is_served(str(path))
    made.remove()
    assert not path.exists()


def test_what_a_killed_process_left_is_replaced(path):
    bound(path)[1].close()
    assert path.exists() and not is_served(str(path))
    made, listener = bound(path)
    with listener:
        assert is_served(str(path))
    made.remove()
    assert not path.exists()


def test_a_living_process_keeps_its_socket(path):
    _, listener = bound(path)
    with listener, pytest.raises(Refused, match="is served by another process; stop it first"):
        bound(path)
    assert path.exists()


def test_a_file_that_is_not_a_socket_stays(path):
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(Refused, match="is not a socket; remove it"):
        bound(path)
    assert path.read_text() == "mine"


def test_a_socket_that_another_process_put_in_its_place_stays(path):
    made, listener = bound(path)
    listener.close()
    other = path.with_name("other")
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(other))
        os.replace(other, path)
        made.remove()
        assert path.exists()


def test_a_directory_that_cannot_be_made_is_named_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"the plugin socket .*x\.sock cannot be made: "):
        bound(tmp_path / "file" / "x.sock")


def test_removing_twice_and_before_the_bind_does_no_harm(path):
    made = UnixSocket("plugin socket", str(path))
    made.remove()
    made.bind(8).close()
    made.remove()
    made.remove()
