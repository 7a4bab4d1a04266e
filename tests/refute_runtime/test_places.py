import os
from pathlib import Path

import pytest

from refute_runtime.places import prune, user_cache, write_whole


@pytest.mark.parametrize(
    ("system", "environ", "expected"),
    [
        ("Linux", {"XDG_CACHE_HOME": "/x"}, "/x"),
        ("Linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache"),
        ("Linux", {}, "/home/me/.cache"),
        ("Darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches"),
        ("Windows", {"LOCALAPPDATA": "/local"}, "/local"),
        ("Windows", {}, "/home/me/AppData/Local"),
    ],
)
def test_the_users_cache(system, environ, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert user_cache(environ, system) == Path(expected)


def test_the_oldest_folders_go(tmp_path):
    for age, name in enumerate("abcde"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    prune(tmp_path.iterdir(), 3)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b", "c"]


def test_the_oldest_files_go_and_a_place_that_is_not_there_is_no_failure(tmp_path):
    for age, name in enumerate("abc"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    prune([*tmp_path.iterdir()], 1)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    prune([tmp_path / "nothing"], 0)


def test_what_is_written_replaces_what_was_there_and_leaves_nothing_else(tmp_path):
    for content in (b"first", b"second"):
        write_whole(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 1
