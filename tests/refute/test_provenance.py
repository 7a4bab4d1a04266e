"""Where a run comes from: secrets stay out, what is unknown is null, model digests are remembered safely."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from refute import provenance
from refute.provenance import (
    cache_directory,
    collect,
    git_state,
    model_sha256,
    package_digest,
    process_alive,
    process_identity,
)


def git(folder, *arguments):
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    options = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *options, *arguments]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **identity})


# --- git


def test_a_folder_without_a_repository_has_no_commit_and_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    state = git_state(tmp_path)
    assert (state["commit"], state["dirty"]) == (None, None)
    assert "not a git repository" in state["reason"]


def test_without_git_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == {
        "commit": None,
        "dirty": None,
        "diff_sha256": None,
        "reason": "git is not installed",
    }


def test_a_repository_without_a_commit_has_a_reason(tmp_path):
    git(tmp_path, "init")
    assert git_state(tmp_path)["reason"]


def test_a_change_makes_the_repository_dirty(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "one")
    clean = git_state(tmp_path)
    assert (len(clean["commit"]), clean["dirty"], clean["reason"]) == (40, False, None)
    (tmp_path / "b").write_text("2")
    assert git_state(tmp_path)["dirty"] is True


@pytest.mark.parametrize("tree", ["records", "a/deep/records", "[a]*"])
def test_records_make_no_repository_dirty(tmp_path, tree):
    git(tmp_path, "init")
    git(tmp_path, "commit", "-m", "one", "--allow-empty")
    records = tmp_path / tree
    records.mkdir(parents=True)
    (records / "new").touch()
    assert git_state(tmp_path)["dirty"] is True
    assert git_state(tmp_path, Path(tree))["dirty"] is False
    assert git_state(records, records)["dirty"] is False
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / "a" / "code.py").touch()
    assert git_state(tmp_path, Path(tree))["dirty"] is True
    assert git_state(records, records)["dirty"] is True


@pytest.mark.parametrize("tree", [".", "..", "../elsewhere"])
def test_a_tree_that_is_no_part_of_the_repository_hides_nothing_of_it(tmp_path, tree):
    root = tmp_path / "root"
    root.mkdir()
    git(root, "init")
    git(root, "commit", "-m", "one", "--allow-empty")
    assert git_state(root, Path(tree))["dirty"] is False
    (root / "new").touch()
    assert git_state(root, Path(tree))["dirty"] is True


def test_what_is_dirty_is_told_apart(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a").write_bytes(b"\xff one")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "one")
    digests = [git_state(tmp_path)["diff_sha256"]]
    for name, content in (("a", b"\xff two"), ("a", b"\xff three"), ("b", b"new")):
        (tmp_path / name).write_bytes(content)
        digests.append(git_state(tmp_path)["diff_sha256"])
    assert digests[0] is None
    assert len(set(digests)) == 4


def test_of_the_environment_only_names_are_kept():
    environment = {"REFUTE_API_KEY": "hush", "QWEN3_MOE_GGUF_PATH": "/hush", "OTHER": "hush"}
    document = collect(argv=["refute"], seeds={"run": 3}, environment=environment)
    assert document["environment"] == ["QWEN3_MOE_GGUF_PATH", "REFUTE_API_KEY"]
    assert "hush" not in json.dumps(document)


def test_a_difference_that_cannot_be_had_leaves_the_commit(tmp_path, monkeypatch):
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "one")
    (tmp_path / "a").write_text("2")
    ask = provenance._git

    def slow(directory, *arguments):
        if arguments[0] == "diff":
            raise subprocess.TimeoutExpired("git", 20)
        return ask(directory, *arguments)

    monkeypatch.setattr(provenance, "_git", slow)
    state = git_state(tmp_path)
    assert (len(state["commit"]), state["dirty"], state["diff_sha256"]) == (40, True, None)


# --- what is collected


def test_provenance_fits_the_schema():
    schema = json.loads((Path(provenance.__file__).parent / "schemas/findings.schema.json").read_text())
    part = {"$ref": "#/properties/provenance", **{key: schema[key] for key in ("$defs", "properties")}}
    document = {**collect(argv=["refute"], seeds={"run": 3}), "process": process_identity()}
    assert list(Draft202012Validator(part).iter_errors(document)) == []
    assert document["packages"]["pytest"]


def test_the_engine_reports_the_digest_that_is_computed_without_it():
    code = (
        "import sys; from refute.provenance import package_digest\n"
        "before = package_digest('refute_runtime'); assert 'refute_runtime.engine' not in sys.modules\n"
        "from refute_runtime.engine import Engine; print(before == Engine.digest.func(None))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_digest_of_a_package_that_is_not_there_is_unknown():
    assert package_digest("no_such_package_here") is None


def test_the_harness_digest_includes_schemas():
    assert package_digest("refute") != package_digest("refute", suffixes=(".py", ".json"))


# --- processes


def test_this_process_is_alive_and_others_are_told_apart():
    identity = process_identity()
    assert process_alive(identity)
    assert not process_alive({**identity, "start_ticks": identity["start_ticks"] + 1})
    assert not process_alive({**identity, "boot_id": "another boot"})
    assert not process_alive({"pid": os.getpid(), "boot_id": None, "start_ticks": None})


def test_a_process_that_ended_is_not_alive():
    code = (
        "import json; from refute.provenance import process_identity; print(json.dumps(process_identity()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not process_alive(json.loads(done.stdout))


# --- the model's digest


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" * 1000)
    return path


def hashed(path, cache):
    """Digest, and whether the file was read for it."""
    seen = []
    digest = model_sha256(path, progress=lambda done, total: seen.append((done, total)), cache=cache)
    return digest, seen


def test_a_model_is_read_once(model, tmp_path):
    cache = tmp_path / "cache" / "digests.json"
    expected = hashlib.sha256(model.read_bytes()).hexdigest()
    assert hashed(model, cache) == (expected, [(4000, 4000)])
    assert hashed(model, cache) == (expected, [])


def test_a_link_is_the_file_that_it_names(model, tmp_path):
    cache, link = tmp_path / "digests.json", tmp_path / "link.gguf"
    link.symlink_to(model)
    hashed(model, cache)
    assert hashed(link, cache)[1] == []


@pytest.mark.parametrize("change", ["time", "size", "inode"])
def test_a_changed_file_is_read_again(model, tmp_path, change):
    cache = tmp_path / "digests.json"
    hashed(model, cache)
    before = model.stat()
    if change == "time":
        model.write_bytes(b"gguf" * 1000)
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif change == "size":
        model.write_bytes(b"gguf" * 1001)
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        other = tmp_path / "other.gguf"
        other.write_bytes(b"gguf" * 1000)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(model)
    digest, seen = hashed(model, cache)
    assert digest == hashlib.sha256(model.read_bytes()).hexdigest()
    assert seen


@given(st.sampled_from([b"", b"{", b"[]", b"null", b'{"x": 1}', b"\xff"]))
def test_a_spoilt_cache_only_costs_time(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("cache")
    (folder / "model.gguf").write_bytes(b"GGUF")
    (folder / "digests.json").write_bytes(content)
    digest, _ = hashed(folder / "model.gguf", folder / "digests.json")
    assert digest == hashlib.sha256(b"GGUF").hexdigest()


def test_a_cache_that_cannot_be_written_never_fails_a_run(model, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert hashed(model, tmp_path / "file" / "digests.json")[1]


def test_a_model_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="nothing"):
        model_sha256(tmp_path / "nothing.gguf", cache=tmp_path / "digests.json")


def test_the_cache_lies_where_the_platform_keeps_caches():
    assert cache_directory({"XDG_CACHE_HOME": "/x"}) == Path("/x/refute")
    assert cache_directory({"XDG_CACHE_HOME": "relative"}) == Path.home() / ".cache" / "refute"
    assert cache_directory({}) == Path.home() / ".cache" / "refute"
