"""Secrets never enter a record: what looks like one, and what is known to be one, wherever it stands."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import changed, contract_at, finding, opened

from refute.finding import Setting
from refute.reader import read_run
from refute.recordable import Requested
from refute.redaction import REDACTED, Secrets, redact, sentence
from refute.strict_json import dump_strict, load_strict


@pytest.mark.parametrize(
    "argv",
    [
        ["refute", "--api-key", "hush"],
        ["refute", "--api-key=hush"],
        ["refute", "--API_KEY=hush"],
        ["refute", "--auth-token", "hush"],
        ["refute", "OPENAI_API_KEY=hush"],
        ["refute", "-o", "password=hush"],
        ["refute", "--endpoint", "https://user:hush@example.org/v1"],
        ["refute", "--header", "Authorization: Bearer hush"],
        ["refute", "--endpoint=https://example.org/v1?api_key=hush"],
        ["refute", "sk-hush-hush-hush"],
        ["refute", "--endpoint", "https://user:hush@example.org/v1?api_key=hush"],
        ["refute", "--header", "x: Bearer hush-hush-hush"],
    ],
    ids=" ".join,
)
def test_secrets_never_enter_a_record(argv):
    assert "hush" not in json.dumps(redact(argv))
    assert REDACTED in json.dumps(redact(argv))


def test_what_is_no_secret_stays():
    argv = ["/usr/bin/refute", "run", "contracts", "-k", "token-exact", "--seed", "3", "--max-tokens=8"]
    assert redact(argv) == ["refute", *argv[1:]]


def test_the_home_directory_is_cut_short(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert redact(["refute", "--model=/home/someone/m.gguf"]) == ["refute", "--model=~/m.gguf"]


@pytest.mark.parametrize(
    "text",
    [
        "the server said: api_key=hush-hush",
        'refused: {"api-key": "hush-hush"}',
        "https://user:hush@example.org refused",
        "Authorization: Bearer hush-hush",
        "sent Bearer hush-hush-hush",
        "no such key sk-hush-hush",
        "auth token: hush-hush",
        "?token=hush",
    ],
)
def test_sentences_keep_no_secret(text):
    cleaned = sentence(text)
    assert "hush" not in cleaned
    assert REDACTED in cleaned
    assert sentence(cleaned) == cleaned


@pytest.mark.parametrize(
    "text",
    ["unexpected token: 'x'", "12 tokens: 5 more", "tokenizer=bpe", "a key: b", "http://127.0.0.1:8080/v1"],
)
def test_sentences_stay_sentences(text):
    assert sentence(text) == text


def test_the_name_of_a_key_s_variable_stays():
    argv = ["refute", "run", "--api-key-env", "MY_KEY", "--endpoint", "http://h/v1"]
    assert redact(argv) == argv


# --- values that are known


def test_secrets_are_the_values_of_variables_that_are_named_so_and_keys_in_use():
    environment = {
        "OPENAI_API_KEY": "abc123def456",
        "HF_TOKEN": "hush-hush-hush-hush",
        "SIGNING_KEY": "k1-k2-k3-k4",
        "TOKENIZERS_PARALLELISM": "parallel1",
        "SECRET_MODE": "disabled",
        "PASSWORD_STORE_DIR": "/home/someone/.store1",
        "SHORT_TOKEN": "abc12",
        "OTHER": "nothing secret 1",
    }
    secrets = Secrets.of(environment, ["used-key", None])
    assert sorted(secrets.values) == ["abc123def456", "hush-hush-hush-hush", "k1-k2-k3-k4", "used-key"]
    assert "used-key" not in repr(secrets)


def test_a_secret_is_found_in_an_address_too():
    assert Secrets.of({}, ["a/b c+d?e"]).text("http://h/?k=a%2Fb%20c%2Bd%3Fe") == f"http://h/?k={REDACTED}"


def test_numbers_are_no_secrets():
    secrets = Secrets.of({}, ["12345678"])
    document = {"n": 12345678, "text": "12345678", "12345678": 1}
    assert load_strict(secrets.document(document)) == {"n": 12345678, "text": REDACTED, REDACTED: 1}


def test_a_file_that_is_not_json_keeps_none_either():
    assert Secrets.of({}, ["hush-hush"]).file(b"\xff hush-hush \n") == b"\xff <redacted> \n"


secret = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=24).filter(
    lambda value: value.strip() == value and value not in REDACTED and "redacted" not in value
)


@settings(max_examples=40)
@given(secret, st.sampled_from(["reason", "samples", "key", "settings", "requested", "log", "attachment"]))
def test_a_known_secret_is_in_no_file_of_a_run(tmp_path_factory, value, place):
    folder = tmp_path_factory.mktemp("run")
    contract = contract_at(folder / "contracts")
    odd = f"before {value} after"
    requested = Requested(keyword=odd) if place == "requested" else Requested()
    writer = opened(
        folder / "evidence", contract, ["exact"], requested=requested, secrets=Secrets.of({}, [value])
    )
    honest = finding(contract, "exact", writer.run)
    case = honest.observations[0]
    leaked = {
        "reason": {"reason": odd},
        "samples": {"observations": (type(case)({"prompt": [odd]}, case.samples),)},
        "key": {"observations": (type(case)({"prompt": {odd: 1}}, case.samples),)},
        "settings": {"settings": (Setting("backend", odd, odd, None),)},
    }
    writer.write(changed(honest, **leaked.get(place, {})))
    if place == "log":
        writer.log(odd)
    if place == "attachment":
        writer.attach("exact.counterexample.json", dump_strict({"case": {"prompt": [odd], odd: None}}))
    writer.seal()
    files = [file for file in writer.path.iterdir() if file.name != "contract.yaml"]
    for file in files:
        if file.suffix == ".json":
            assert value not in strings(json.loads(file.read_bytes()))
        else:
            assert not re.search(re.escape(value), file.read_text())
    assert any(REDACTED in file.read_text() for file in files)
    assert read_run(writer.path).problems == ()


def strings(data):
    """All strings in plain data, keys too, each on a line of its own."""
    if isinstance(data, str):
        return data
    if isinstance(data, dict):
        return "\n\n".join([*data, *map(strings, data.values())])
    return "\n\n".join(map(strings, data)) if isinstance(data, list) else ""
