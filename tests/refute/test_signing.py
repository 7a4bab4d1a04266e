"""Signed records: bytes, keys, and everything about an envelope that could be otherwise."""

import base64
import json
import os
import re
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from records import edit, opened, write_run

from refute import signing
from refute.cli import main
from refute.reader import read_run
from refute.signing import (
    PAYLOAD_TYPE,
    SigningError,
    keygen,
    load_public_key,
    load_signer,
    sign,
    signed,
    verify,
)
from refute.verdict import Exit


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key pairs: the paths of the private ones."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        keygen(folder / name)
    return folder / "ours", folder / "theirs"


def public(path):
    return load_public_key(path.with_name(f"{path.name}.pub"))


@pytest.fixture
def run(tree, contract):
    return write_run(tree, contract)


@pytest.fixture
def ours(run, keys):
    """A run that we signed."""
    sign(run, load_signer(keys[0]))
    return run


def envelope(run):
    return json.loads((run / "findings.dsse.json").read_bytes())


def change(run, **changes):
    (run / "findings.dsse.json").write_text(json.dumps({**envelope(run), **changes}))


# --- keys


def test_a_private_key_is_its_owner_s_alone(keys):
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600


@pytest.mark.parametrize("which", ["key", "key.pub"])
def test_a_key_is_never_written_over(tmp_path, which):
    (tmp_path / which).write_text("precious")
    with pytest.raises(SigningError, match="never written over"):
        keygen(tmp_path / "key")
    assert (tmp_path / which).read_text() == "precious"


def test_the_id_is_that_of_the_private_key(keys):
    assert public(keys[0]).id == load_signer(keys[0]).public_key.keyid


@pytest.mark.parametrize("load", [load_signer, load_public_key])
@pytest.mark.parametrize("content", [b"", b"hush-hush", b"-----BEGIN PRIVATE KEY-----\nhush\n"])
def test_what_is_no_key_is_one_sentence_that_repeats_nothing(tmp_path, load, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SigningError, match="key") as refused:
        load(tmp_path / "key")
    assert "hush" not in str(refused.value)


def test_a_key_of_another_kind_is_refused(tmp_path):
    key = generate_private_key(SECP256R1())
    pem = serialization.Encoding.PEM
    (tmp_path / "key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "key.pub").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(SigningError, match="expected an ed25519 key"):
        load_signer(tmp_path / "key")
    with pytest.raises(SigningError, match="expected an ed25519 key"):
        load_public_key(tmp_path / "key.pub")


def test_a_key_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(SigningError, match="No such file"):
        load_signer(tmp_path / "none")


def test_without_what_signatures_need_the_sentence_says_what_to_install(monkeypatch, keys):
    monkeypatch.setattr(signing, "_NEEDS", ("no_such_library_here",))
    with pytest.raises(SigningError, match=r"pip install 'refute\[sign\]'"):
        load_signer(keys[0])


# --- signing


def test_a_signed_run_is_verified_and_reads_as_before(ours, keys):
    assert verify(ours, [public(keys[0]), public(keys[1])]) == (public(keys[0]).id,)
    assert read_run(ours).problems == ()


def test_the_signature_is_dsse_over_the_bytes_of_findings_json(ours, keys):
    """Checked with nothing but ed25519 and the definition of DSSE."""
    found, payload = envelope(ours), (ours / "findings.json").read_bytes()
    assert base64.b64decode(found["payload"]) == payload
    kind = PAYLOAD_TYPE.encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    key = serialization.load_pem_public_key(keys[0].with_name("ours.pub").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    key.verify(base64.b64decode(found["signatures"][0]["sig"]), message)


def test_several_can_sign_and_who_signs_twice_leaves_one_signature(ours, keys):
    for key in (*keys, keys[0]):
        sign(ours, load_signer(key))
    assert set(verify(ours, [public(key) for key in keys])) == {public(key).id for key in keys}
    assert len(envelope(ours)["signatures"]) == 2


def test_a_run_that_goes_on_is_not_signed(tree, contract, keys):
    writer = opened(tree, contract)
    with pytest.raises(SigningError, match="not sealed"):
        sign(writer.path, load_signer(keys[0]))


def test_an_interrupted_run_can_be_signed(tree, contract, keys):
    writer = opened(tree, contract)
    writer.seal()
    assert sign(writer.path, load_signer(keys[0])) == public(keys[0]).id


def test_a_spoilt_run_is_not_signed(run, keys):
    edit(run / "exact.json", lambda d: d.update(reason="it was fine"), rehash=False)
    with pytest.raises(SigningError, match="not whole, and not signed"):
        sign(run, load_signer(keys[0]))
    assert not (run / "findings.dsse.json").exists()


def test_nobody_s_signature_is_carried_over_to_other_bytes(ours, keys):
    edit(ours / "findings.json", lambda d: d["time"].update(ended="2030-01-01T00:00:00Z"), rehash=False)
    with pytest.raises(SigningError, match="of other bytes"):
        sign(ours, load_signer(keys[1]))


# --- what is not signed as it should be


def test_tampered_bytes_are_noticed(ours, keys):
    edit(ours / "findings.json", lambda d: d["time"].update(ended="2030-01-01T00:00:00Z"), rehash=False)
    with pytest.raises(SigningError, match=r"of other bytes than findings\.json"):
        verify(ours, [public(keys[0])])


def test_tampered_bytes_with_a_payload_to_match_are_noticed(ours, keys):
    edit(ours / "findings.json", lambda d: d["time"].update(ended="2030-01-01T00:00:00Z"), rehash=False)
    change(ours, payload=base64.b64encode((ours / "findings.json").read_bytes()).decode())
    with pytest.raises(SigningError, match=r"the signature of key .* is wrong"):
        verify(ours, [public(keys[0])])


def test_another_payload_type_is_noticed(ours, keys):
    change(ours, payloadType="application/vnd.in-toto+json")
    with pytest.raises(SigningError, match=re.escape("expected 'application/vnd.refute")):
        verify(ours, [public(keys[0])])


def test_the_wrong_key_is_noticed(ours, keys):
    with pytest.raises(SigningError, match="by no key that is trusted here"):
        verify(ours, [public(keys[1])])


def test_a_signature_under_another_s_name_is_noticed(ours, keys):
    (entry,) = envelope(ours)["signatures"]
    change(ours, signatures=[{**entry, "keyid": public(keys[1]).id}])
    with pytest.raises(SigningError, match="is wrong"):
        verify(ours, [public(keys[1])])


def test_no_signature_is_noticed(run, keys):
    with pytest.raises(SigningError, match="No such file"):
        verify(run, [public(keys[0])])


@pytest.mark.parametrize(
    "changes",
    [
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [1]},
        {"signatures": [{"keyid": 1, "sig": ""}]},
        {"signatures": [{"keyid": "a", "sig": "", "more": 1}]},
        {"signatures": [{"keyid": "a", "sig": "AA=="}, {"keyid": "a", "sig": "AA=="}]},
        {"signatures": [{"keyid": "a", "sig": "AB=="}]},
        {"signatures": [{"keyid": "a", "sig": None}]},
        {"payload": "?"},
        {"payload": 1},
        {"payloadType": 1},
        {"more": 1},
    ],
    ids=str,
)
def test_an_envelope_that_is_none_is_one_sentence(ours, keys, changes):
    change(ours, **changes)
    with pytest.raises(SigningError, match=r"findings\.dsse\.json"):
        verify(ours, [public(keys[0])])


def test_an_envelope_can_be_read_without_a_key(ours, keys):
    files = (ours / name for name in ("findings.dsse.json", "findings.json"))
    assert list(signed(*(file.read_bytes() for file in files), "it").signatures) == [public(keys[0]).id]


# --- the commands


def test_the_commands_make_keys_and_sign(tree, contract, tmp_path, capsys):
    runs = [write_run(tree, contract, number=number) for number in (1, 2)]
    key = tmp_path / "key"
    assert main(["keygen", str(key)]) == Exit.OK
    assert main(["sign", *map(str, runs), "--key", str(key)]) == Exit.OK
    said = capsys.readouterr().out
    assert public(key).id in said
    assert all(verify(run, [public(key)]) for run in runs)


def test_a_command_that_cannot_sign_says_why(tree, contract, tmp_path, capsys):
    run = write_run(tree, contract)
    assert main(["sign", str(run), "--key", str(tmp_path / "none")]) == Exit.USAGE
    assert main(["keygen", str(tmp_path / "key")]) == Exit.OK
    assert main(["keygen", str(tmp_path / "key")]) == Exit.USAGE
    os.truncate(run / "exact.json", 10)
    assert main(["sign", str(run), "--key", str(tmp_path / "key")]) == Exit.INVALID
    assert capsys.readouterr().err.count("refute: ") == 3
