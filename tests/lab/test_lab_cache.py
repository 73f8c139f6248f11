"""The cache of what the lab fetches: complete or not there, made once, whoever asks."""

import os
import threading

import pytest

from nuage_lab import packages
from nuage_lab.hosts.run import LabError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    if os.geteuid():
        pytest.skip("only root makes what is in the cache")
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_what_failed_half_way_is_not_there_and_is_made_anew(cache):
    def fail(directory):
        (directory / "half").touch()
        raise LabError("no network")

    with pytest.raises(LabError, match=r"cannot make .*: no network"):
        packages.made("thing", fail)
    assert not (cache / "thing").exists()
    assert (
        packages.made("thing", lambda directory: (directory / "whole").touch()) == cache / "thing"
    )
    assert os.listdir(cache / "thing") == ["whole"]


def test_what_a_killed_process_left_aside_is_not_taken_for_the_thing(cache):
    (cache / "thing.new").mkdir(parents=True)
    (cache / "thing.new" / "half").touch()
    packages.made("thing", lambda directory: (directory / "whole").touch())
    assert os.listdir(cache / "thing") == ["whole"]


def test_several_that_ask_at_once_make_it_once(cache):
    made, asked = [], threading.Barrier(4, timeout=30)

    def make(directory):
        made.append(directory)

    def ask():
        asked.wait()
        packages.made("thing", make)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and (cache / "thing").is_dir()


def test_what_is_there_is_not_made_again(cache):
    (cache / "thing").mkdir(parents=True)
    assert packages.made("thing", lambda directory: pytest.fail("made again")) == cache / "thing"
