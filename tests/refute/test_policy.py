"""`[tool.refute]`: what it holds, what is wrong with it and where, and what waivers and invalidations do."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from records import (
    FULL,
    PRESENT,
    RED,
    STRADDLING,
    contract_at,
    edit,
    finding,
    kinds,
    opened,
    run_id,
    write_run,
)

from refute.cli import main
from refute.contract import load_contract
from refute.contract_files import find_contracts
from refute.gate import gate
from refute.policy import Invalidation, Policy, ProfilePolicy, Waiver, digest_of, no_policy
from refute.policy_file import read_policy
from refute.record import newest_sealed
from refute.signing import keygen, load_signer, sign
from refute.status import status
from refute.verdict import Exit, Status

CLAIMS = ("demo-v1/exact", "demo-v1/floor", "demo-v1/small")
TODAY = date(2026, 11, 30)
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SOUND = f"""\
[tool.refute]
evidence = ["evidence", "more"]

[tool.refute.testbeds]
lab = "{"a" * 12}"

[tool.refute.profiles.release]
max-age-days = 90
testbeds = ["lab"]

[[tool.refute.waivers]]
claim = "demo-v1/exact"
owner = "ana"
reason = "the host is being repaired"
expires = 2026-12-31
up-to = "falsified"

[[tool.refute.invalidations]]
claim = "demo-v1/small"
run = "{run_id(1)}"
owner = "ben"
reason = "the disk was full"
"""


def reading(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    return read_policy(tmp_path, CLAIMS, TODAY)


def waiver(**how):
    given = {"claim": "demo-v1/small", "owner": "ana", "reason": "it rains", "expires": "2026-11-30"}
    return Waiver(**{**given, "up_to": Status.INVALID, **how})


def policy(*waivers, **how):
    return Policy(digest_of({}), waivers=waivers, **how)


def decide(contract, tree, given, profile="pr"):
    return gate([contract], [tree], profile=profile, present=PRESENT, kinds=kinds, policy=given, now=NOW)


def claim_of(contract, tree, given, name="small"):
    found = status([contract], [tree], present=PRESENT, kinds=kinds, policy=given, now=NOW)
    return next(claim for claim in found.claims if claim.falsifier == name)


# --- reading


def test_a_sound_policy_is_read_whole(tmp_path):
    found = reading(tmp_path, SOUND)
    assert found.problems == ()
    assert found.policy.evidence == (tmp_path / "evidence", tmp_path / "more")
    assert found.policy.of("release") == ProfilePolicy(90, {"lab": "a" * 12})
    assert found.policy.of("pr") == ProfilePolicy()
    assert found.policy.waivers[0].up_to is Status.FALSIFIED
    assert found.policy.invalidations == (
        Invalidation("demo-v1/small", run_id(1), "ben", "the disk was full"),
    )


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "[tool.other]\n", "[tool.refute]\n"])
def test_without_a_section_the_policy_is_empty(tmp_path, text):
    found = reading(tmp_path, text)
    assert (found.policy.waivers, found.policy.sha256) == ((), no_policy().sha256)


def test_the_digest_is_of_what_is_decided_and_of_nothing_else(tmp_path):
    first = reading(tmp_path, SOUND).policy.sha256
    again = reading(tmp_path, "# a comment\n[project]\nname = 'x'\n" + SOUND.replace(" = ", "   = "))
    other = reading(tmp_path, SOUND.replace("2026-12-31", "2027-12-31"))
    assert first == again.policy.sha256 != other.policy.sha256


@pytest.mark.parametrize(
    ("old", "new", "line", "rule", "said"),
    [
        ("evidence = [", "evidnce = [", 2, "policy-key", "did you mean 'evidence'?"),
        ("evidence = [", "evidence = [1, ", 2, "policy-value", "evidence: 1; expected some text"),
        ("profiles.release", "profiles.nightly", 7, "policy-key", "unknown key 'nightly'"),
        ("max-age-days = 90", "max-age-days = 0", 8, "policy-value", "at least 1"),
        ("max-age-days = 90", "max-age-days = true", 8, "policy-value", "max-age-days: True"),
        ('["lab"]', '["labb"]', 9, "policy-testbed", "did you mean 'lab'?"),
        (f'"{"a" * 12}"', '"aaaa"', 5, "policy-value", "at least 12 first digits"),
        ("demo-v1/exact", "demo-v1/exakt", 12, "policy-claim", "did you mean 'demo-v1/exact'?"),
        ("demo-v1/exact", "exact", 12, "policy-value", "expected CONTRACT/FALSIFIER"),
        ('owner = "ana"\n', "", 11, "policy-missing", "'owner' is missing"),
        ('reason = "the host is being repaired"', 'reason = " "', 14, "policy-value", "expected some text"),
        ("2026-12-31", '"2026-12-31"', 15, "policy-value", "write it without quotes"),
        ("2026-12-31", "2026-12-31T00:00:00", 15, "policy-value", "a day such as"),
        ("2026-12-31", "2026-11-29", 15, "waiver-expired", "expired on 2026-11-29"),
        ('"falsified"', '"tampered"', 16, "policy-value", "a status that can be waived"),
        (run_id(1), "latest", 20, "policy-value", "refute status CLAIM lists them"),
    ],
)
def test_every_fault_has_its_place_what_was_expected_and_a_fix(tmp_path, old, new, line, rule, said):
    assert old in SOUND
    found = reading(tmp_path, SOUND.replace(old, new, 1))
    (problem,) = found.problems
    assert (problem.line, problem.rule) == (line, rule)
    assert said in str(problem)
    assert (found.policy is None) == (rule not in ("waiver-expired", "policy-claim"))


def test_what_is_there_twice_is_told(tmp_path):
    again = "\n".join(SOUND.splitlines()[10:])
    found = reading(tmp_path, SOUND + "\n" + again)
    assert [problem.rule for problem in found.problems] == ["policy-twice", "policy-twice"]
    assert "demo-v1/exact is there twice, first on line 11" in found.problems[0].what


@pytest.mark.parametrize(
    "text", ["tool.refute = 1", "[[tool.refute]]", "[tool.refute]\nwaivers = 1\nkeys = nan"]
)
def test_what_is_no_table_is_told(tmp_path, text):
    found = reading(tmp_path, text)
    assert found.policy is None
    assert "expected a" in str(found.problems[0])


# --- the command line


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contract = contract_at(tmp_path / "contracts")
    (tmp_path / "pyproject.toml").write_text(SOUND.replace("exact", "exakt"))
    return contract


def test_lint_tells_of_the_policy_too(project, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("refute.report.lint.lint", lambda *_, **__: [])
    assert main(["lint"]) == Exit.USAGE
    said = "pyproject.toml:12:9: no claim 'demo-v1/exakt'; did you mean 'demo-v1/exact'?"
    assert capsys.readouterr().err.strip() == said
    (tmp_path / "pyproject.toml").write_text("[tool.refute\n")
    assert main(["lint", "--json"]) == Exit.USAGE
    assert json.loads(capsys.readouterr().out)["problems"][0]["rule"] == "toml-syntax"


@pytest.mark.parametrize("command", [["status"], ["gate", "--profile", "pr"]])
def test_a_policy_that_cannot_be_used_ends_a_command(project, tmp_path, capsys, command, monkeypatch):
    monkeypatch.setattr("refute.lint.lint", lambda *_, **__: [])
    (tmp_path / "pyproject.toml").write_text(SOUND.replace("owner", "onwer", 1))
    assert main(command) == Exit.USAGE
    assert "pyproject.toml:13:1: unknown key 'onwer'; did you mean 'owner'?" in capsys.readouterr().err


def test_the_trees_of_the_policy_are_read_where_none_is_named(project, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("refute.lint.lint", lambda *_, **__: [])
    write_run(tmp_path / "more", project)
    main(["status", "--json"])
    assert json.loads(capsys.readouterr().out)["runs"] == 1
    (tmp_path / "elsewhere").mkdir()
    main(["status", "--json", "--evidence", "elsewhere"])
    assert json.loads(capsys.readouterr().out)["runs"] == 0


@pytest.mark.parametrize("command", [["status"], ["gate", "--profile=pr"], ["report"]])
@pytest.mark.parametrize(("tree", "what"), [("none", "no such folder"), ("file", "is no folder")])
def test_a_tree_that_was_named_and_is_none_is_a_sentence(project, capsys, monkeypatch, command, tree, what):
    monkeypatch.setattr("refute.lint.lint", lambda *_, **__: [])
    Path("file").touch()
    assert main([*command, "--evidence", tree]) == Exit.MISSING
    assert capsys.readouterr() == ("", f"refute: {tree}: {what}; expected a tree of records, CONTRACT/RUN/\n")


# --- waivers


@pytest.mark.parametrize("how", [{"values": STRADDLING}, {"caught": False}, {"build": "engine-build-0"}])
def test_a_waived_claim_says_by_whom_and_why_and_opens_the_gate(contract, tree, how):
    write_run(tree, contract, ["exact", "floor"])
    write_run(tree, contract, ["small"], number=2, **how)
    claim = claim_of(contract, tree, policy(waiver()))
    assert claim.status is Status.WAIVED
    assert claim.reason.startswith(f"waived by ana until 2026-11-30: it rains; it is {claim.beneath}: ")
    ruling = decide(contract, tree, policy(waiver())).rulings[2]
    assert (ruling.outcome, ruling.code, ruling.status) == ("waived", Exit.OK, claim.beneath)
    assert decide(contract, tree, policy(waiver())).passes


def test_an_expired_waiver_counts_no_more_and_is_said(contract, tree):
    write_run(tree, contract, ["small"], values=STRADDLING)
    old = waiver(expires="2026-11-29")
    claim = claim_of(contract, tree, policy(old))
    assert claim.status is Status.INCONCLUSIVE
    assert claim.flags == (f"a waiver that has expired: {old}",)
    assert decide(contract, tree, policy(old)).rulings[2].outcome == "fails"


@pytest.mark.parametrize(("up_to", "code"), [(Status.INVALID, Exit.FALSIFIED), (Status.FALSIFIED, Exit.OK)])
def test_a_falsified_claim_is_waived_only_by_name(contract, tree, up_to, code):
    write_run(tree, contract, ["exact", "floor"])
    write_run(tree, contract, ["small"], number=2, values=RED)
    given = policy(waiver(up_to=up_to))
    assert decide(contract, tree, given).code is code
    assert bool(claim_of(contract, tree, given).flags) == (up_to is Status.INVALID)


def test_nobody_waives_tampering(contract, tree):
    path = write_run(tree, contract)
    edit(path / "small.json", lambda d: d.update(figure="fine"), rehash=True)
    assert decide(contract, tree, policy(waiver(up_to=Status.FALSIFIED))).code is Exit.INVALID


def test_a_waiver_of_what_is_discharged_does_nothing(contract, tree):
    write_run(tree, contract)
    assert claim_of(contract, tree, policy(waiver())).status is Status.DISCHARGED


def test_what_needs_a_waived_claim_is_not_waived_with_it(contract, tree):
    write_run(tree, contract, ["exact"], model=FULL, values=STRADDLING)
    write_run(tree, contract, ["floor"], number=2, model=FULL)
    given = policy(waiver(claim="demo-v1/exact"))
    assert claim_of(contract, tree, given, "exact").status is Status.WAIVED
    assert claim_of(contract, tree, given, "floor").status is Status.OPEN


# --- invalidations


def test_an_invalidated_attempt_counts_no_more_and_is_shown(contract, tree):
    write_run(tree, contract, ["small"], number=1, values=RED)
    write_run(tree, contract, ["small"], number=2)
    given = policy(invalidations=(Invalidation("demo-v1/small", run_id(1), "ben", "the disk was full"),))
    claim = claim_of(contract, tree, given)
    assert (claim.status, claim.rows[0].attempts) == (Status.DISCHARGED, 1)
    assert claim.flags == (f"run {run_id(1)} was invalidated by ben: the disk was full",)


def test_a_claim_whose_attempts_are_all_invalidated_is_unobserved(contract, tree):
    write_run(tree, contract, ["small"])
    given = policy(invalidations=(Invalidation("demo-v1/small", run_id(1), "ben", "the disk was full"),))
    claim = claim_of(contract, tree, given)
    assert (claim.status, claim.reason) == (Status.UNOBSERVED, "every attempt was invalidated")


def test_an_invalidated_record_that_was_tampered_with_is_tampered_still(contract, tree):
    path = write_run(tree, contract, ["small"])
    edit(path / "small.json", lambda d: d.update(figure="fine"), rehash=True)
    given = policy(invalidations=(Invalidation("demo-v1/small", run_id(1), "ben", "the disk was full"),))
    assert claim_of(contract, tree, given).status is Status.TAMPERED


def test_what_a_policy_says_of_nothing_is_listed(contract, tree):
    write_run(tree, contract)
    given = policy(
        waiver(claim="gone-v1/small"),
        invalidations=(Invalidation("demo-v1/small", run_id(9), "ben", "the disk was full"),),
    )
    assert decide(contract, tree, given).unused == (
        "a waiver of gone-v1/small, which no contract here declares",
        f"an invalidation of demo-v1/small in run {run_id(9)}, which is not here",
    )


# --- age and testbeds


def dated(started):
    def make(*arguments, **how):
        honest = finding(*arguments, **how)
        return type(honest)(
            **{field: getattr(honest, field) for field in honest.__slots__} | {"started": started}
        )

    return make


@pytest.mark.parametrize(
    ("started", "code", "said"),
    [
        ("2026-11-21T00:00:00.000Z", Exit.OK, ""),
        ("2026-11-19T00:00:00.000Z", Exit.MISSING, "is 11 days old; pr wants at most 10"),
        ("2026-12-05T00:00:00.000Z", Exit.MISSING, "says it started 5 days from now"),
    ],
)
def test_evidence_that_is_too_old_does_not_count(contract, tree, started, code, said):
    write_run(tree, contract, make=dated(started))
    decision = decide(contract, tree, policy(profiles={"pr": ProfilePolicy(max_age_days=10)}))
    assert decision.code is code
    assert said in decision.rulings[0].reason


def test_a_profile_wants_every_one_of_its_testbeds(contract, tree):
    given = policy(profiles={"release": ProfilePolicy(None, {"lab": "c" * 12, "desk": "d" * 12})})
    write_run(tree, contract)
    write_run(tree, contract, number=2, model=FULL, testbed="c" * 64)
    ruling = decide(contract, tree, given, "release").rulings[0]
    assert (ruling.outcome, ruling.reason) == (
        "fails",
        "unobserved: nothing that counts on testbed desk",
    )
    write_run(tree, contract, number=3, model=FULL, testbed="d" * 64)
    assert decide(contract, tree, given, "release").rulings[0].outcome == "passes"


# --- signatures


@pytest.fixture
def signed(contract, tree):
    """A policy that wants signatures of one key, and what signs a run with it."""
    pair = tree.parent / "ana.key"
    keygen(pair)
    given = policy(profiles={"pr": ProfilePolicy(signatures=True)}, keys={"ana": tree.parent / "ana.key.pub"})
    return given, lambda run: sign(run, load_signer(pair))


def test_a_profile_can_want_every_run_signed(contract, tree, signed):
    given, sign_it = signed
    path = write_run(tree, contract)
    ruling = decide(contract, tree, given).rulings[0]
    assert (ruling.outcome, ruling.code, ruling.status) == ("fails", Exit.MISSING, Status.UNOBSERVED)
    assert "its run is not signed as it has to be" in ruling.reason
    assert ruling.command == f"refute sign {path} --key KEY"
    sign_it(path)
    assert decide(contract, tree, given).passes


def test_the_signature_of_another_key_does_not_count(contract, tree, signed):
    path = write_run(tree, contract)
    keygen(tree.parent / "ben.key")
    sign(path, load_signer(tree.parent / "ben.key"))
    assert "by no key that is trusted here" in decide(contract, tree, signed[0]).rulings[0].reason


def test_without_a_key_that_can_be_read_nothing_is_signed(contract, tree, signed):
    given, sign_it = signed
    sign_it(write_run(tree, contract))
    (tree.parent / "ana.key.pub").write_text("-----BEGIN PUBLIC KEY-----\nno\n")
    assert "signatures cannot be checked" in decide(contract, tree, given).rulings[0].reason


def test_keys_are_files_and_what_is_in_them_is_in_the_digest(tmp_path):
    text = '[tool.refute.keys]\nana = "ana.pub"\n[tool.refute.profiles.pr]\nsignatures = "required"\n'
    assert "cannot be read (No such file or directory)" in str(reading(tmp_path, text).problems[0])
    digests = []
    for content in ("-----BEGIN PUBLIC KEY-----1", "-----BEGIN PUBLIC KEY-----2"):
        (tmp_path / "ana.pub").write_text(content)
        found = reading(tmp_path, text)
        assert (found.problems, found.policy.keys) == ((), {"ana": tmp_path / "ana.pub"})
        assert found.policy.of("pr").signatures
        digests.append(found.policy.sha256)
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tool.refute.profiles.pr]\nsignatures = "required"\n', "no key is listed whose signature counts"),
        ("[tool.refute.profiles.pr]\nsignatures = true\n", "signatures: True; expected 'required' or"),
        ("[tool.refute.keys]\nana = 1\n", "ana: 1; expected a .pub file"),
        ('[tool.refute.keys]\nana = "pyproject.toml"\n', "pyproject.toml is no public key"),
    ],
)
def test_what_is_wrong_with_keys_is_told(tmp_path, text, said):
    found = reading(tmp_path, text)
    assert said in str(found.problems[0])
    assert found.policy is None


def test_a_decision_names_all_that_it_rests_on(contract, tree):
    write_run(tree, contract)
    first, again = (decide(contract, tree, policy()).inputs for _ in range(2))
    assert first == again
    assert (first.now, first.policy_sha256) == ("2026-11-30T12:00:00Z", digest_of({}))
    assert first.contracts == {"demo-v1": contract.bytes_sha256}
    write_run(tree, contract, number=2)
    assert decide(contract, tree, policy()).inputs.evidence_sha256 != first.evidence_sha256


def test_a_finding_that_another_run_took_over_is_the_same_attempt(contract, tree):
    first = opened(tree, contract, run=run_id(1))
    first.write(finding(contract, "small", first.run, values=RED))
    first.seal(interrupted=True)
    sealed = newest_sealed(first.path.parent)
    second = opened(tree, contract, run=run_id(2), resumes=sealed)
    second.take_over((first.path / "small.json").read_bytes())
    second.seal(interrupted=True)
    assert claim_of(contract, tree, policy()).rows[0].attempts == 1
    given = policy(invalidations=(Invalidation("demo-v1/small", run_id(1), "ben", "the disk was full"),))
    assert claim_of(contract, tree, given).status is Status.UNOBSERVED


def test_the_policy_in_the_documentation_is_sound(tmp_path):
    root = Path(__file__).parents[2]
    contracts = [load_contract(path) for path in find_contracts(root)]
    text = (root / "docs" / "policy.md").read_text().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "pyproject.toml").write_text(text)
    claims = [f"{contract.id}/{each.id}" for contract in contracts for each in contract.falsifiers]
    found = read_policy(tmp_path, claims, TODAY)
    assert found.problems == ()
    assert (len(found.policy.waivers), len(found.policy.invalidations)) == (1, 1)
