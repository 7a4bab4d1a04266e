from pathlib import Path

import pytest

from refute_runtime.places import user_cache


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
