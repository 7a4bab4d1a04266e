"""What the audit shows, and to whom it is blind: `docs/threats.md`, from edits that were tried.

`python tests/support/threats.py` writes the file; a test tries all again and compares.
"""

# ruff: noqa: E501 (the rows of a table are one line each)

import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audited import Audited, Bundle, make_tree
from informative import INFORMATIVE, MADE_UP
from mutations import EDITORS, Fate, contents, fates, hidden, weighing
from tampers import BITS, CACHED, FLOOR, HIDDEN, OF_RUN, OF_TREES, honest_trees, of, put, traced, trees

from refute.audit.rule import Severity
from refute.audit.rules import OF_RUNS
from refute.audit.rules import OF_TREES as TREE_RULES
from refute.reader import CONTRACT, SUMMARY

DOCUMENT = Path(__file__).parents[2] / "docs" / "threats.md"


@dataclass(frozen=True)
class Story:
    """Something that an editor may want. wants: in words. edit: what is done, before anything is redone."""

    wants: str
    edit: Callable[[Bundle], object]


def _ten_times(document):
    for each in document["observations"]:
        each["samples"]["token_ns"] = [time // 10 for time in each["samples"]["token_ns"]]
        each["samples"]["prefilled_ns"] //= 10


def _easier(bundle):
    bundle.files[CONTRACT] = bundle.files[CONTRACT].replace(b"above: 2 tok/s", b"above: 1 tok/s")


def _clean(document):
    """No step errs, and there are as many cases as were planned."""
    seen = document["observations"]
    document["observations"] = [copy.deepcopy(seen[n % len(seen)]) for n in range(8)]
    for each in document["observations"]:
        for step in each["samples"]["steps"]:
            step.update(error=0.0, flip=None)
    document.update(counterexample=None, replays=None)


def _unhidden(bundle):
    of(BITS, _clean)(bundle)
    bundle.files.pop("bits.counterexample.json")


def _unplanned(bundle):
    bundle.files = hidden(bundle, "floor", "cached", "answers", "promised").files


def _unplanned_though_named(bundle):
    _unplanned(bundle)
    put(SUMMARY, "requested", "keyword", to="floor or bits")(bundle)
    put(SUMMARY, "provenance", "argv", to=["refute", "run", "-k", "floor or bits"])(bundle)


def _unplanned_and_unnamed(bundle):
    _unplanned(bundle)
    put(SUMMARY, "requested", "keyword", to="not bits")(bundle)
    put(SUMMARY, "provenance", "argv", to=["refute", "run", "-k", "not bits"])(bundle)


def _elsewhere(document):
    document["provenance"]["facts"]["cpu_model"]["value"] = "A faster CPU"


def _impossible(document):
    for each in document["observations"]:
        each["samples"]["token_ns"] = [n * 100 for n in range(1, 7)]


STORIES = [
    Story("call a falsified claim survived", put(BITS, "verdict", to="survived")),
    Story("have a decode rate that is ten times as high", of(FLOOR, _ten_times)),
    Story("have a decode rate that no machine has", of(FLOOR, _impossible)),
    Story("drop the slowest run", of(FLOOR, lambda d: d["observations"].pop())),
    Story("drop the counterexample, and make up cases that refute nothing", _unhidden),
    Story("loosen the bound in the contract of the run", _easier),
    Story("change the claim's sentence", put(CACHED, "claim", to="The cache is correct.")),
    Story("drop a fault that was not caught", of(CACHED, lambda d: d["faults"].clear())),
    Story("call another model the one that was attacked", put(FLOOR, "target", "model_sha256", to="0" * 64)),
    Story("call another host the one that was used", of(SUMMARY, _elsewhere)),
    Story("date the run to another day", put(SUMMARY, "time", "started", to="2026-01-01T00:00:00.000Z")),
    Story("hide a finding", lambda bundle: bundle.files.pop(BITS)),
    Story("hide a finding, its place in the plan and its line in the log", _unplanned),
    Story("the same in a run whose -k names it", _unplanned_though_named),
    Story("the same, and call it left out by -k", _unplanned_and_unnamed),
    Story("exchange one prompt", of(CACHED, lambda d: d["observations"][1]["case"].update(prompt=[1, 2]))),
]


def _told(rules: tuple[str, ...]) -> str:
    if not rules:
        return "**nobody**"
    named = ", ".join(f"`{rule}`" for rule in rules[:3])
    return f"{named} and {len(rules) - 3} more" if len(rules) > 3 else named


def _fate(audited: Audited, bundle: Bundle) -> str:
    """Who tells of an edit; where nobody does, what it changed."""
    if contents(bundle) == contents(audited.whole):
        return "undone by it"
    rules = weighing(audited, bundle)
    if rules:
        return _told(rules)
    before, now = (
        {each["falsifier"]: each["verdict"] for each in one.json(SUMMARY)["findings"]}
        for one in (audited.whole, bundle)
    )
    changed = [f"{name} is {verdict}" for name, verdict in now.items() if verdict != before[name]]
    return _told(()) + "".join(f"; {change} then" for change in changed)


def stories(audited: Audited) -> Iterator[str]:
    yield "| to ... | careless | redoes the listing | redoes all that follows |"
    yield "|---|---|---|---|"
    for story in STORIES:
        cells = []
        for redo in EDITORS.values():
            bundle = audited.whole.copy()
            story.edit(bundle)
            redo(bundle, audited.library)
            cells.append(_fate(audited, bundle))
        yield f"| {story.wants} | {' | '.join(cells)} |"


def runs(audited: Audited) -> Iterator[str]:
    """Edits of whole runs: what other runs and git tell."""
    lone = trees(traced(audited, audited.again), audited.tree)
    edits = {
        "delete the run before the newest one": lone,
        "edit a run that was gone on with": OF_TREES["resumed-kept"](audited),
        "run again until it is green": OF_TREES["attempts-final"](audited),
        "copy a run under another name": OF_TREES["times-own"](audited),
        "delete or edit what was committed": OF_TREES["history-kept"](audited),
    }
    assert not _of_trees(honest_trees(audited))
    yield "| to ... | told by |"
    yield "|---|---|"
    for wants, made in edits.items():
        yield f"| {wants} | {_told(_of_trees(made))} |"
    yield "| delete the newest run, where git has not seen it | **nobody** |"


def _of_trees(made) -> tuple[str, ...]:
    weighty = [rule for rule in TREE_RULES if rule.severity is not Severity.NOTE]
    return tuple(sorted(rule.id for rule in weighty if any(True for _ in rule.check(made))))


def counts(tried: list[Fate]) -> Iterator[str]:
    yield "| the editor | fields | told | undone by redoing | survive |"
    yield "|---|---|---|---|---|"
    words = {
        "careless": "changes a field and no more",
        "hashes": "also redoes the listing",
        "derived": "also redoes all that follows from samples",
    }
    for editor, word in words.items():
        fields: dict[str, list[Fate]] = {}
        for fate in tried:
            if fate.editor == editor:
                fields.setdefault(fate.mutation.field, []).append(fate)
        survived = sum(any(fate.survived for fate in each) for each in fields.values())
        undone = sum(all(fate.undone for fate in each) for each in fields.values())
        told = len(fields) - survived - undone
        yield f"| {word} | {len(fields)} | {told} | {undone} | {survived} |"


def document(audited: Audited, tried: list[Fate]) -> str:
    """The whole text."""
    rules = [*OF_RUNS, *TREE_RULES]
    severities = ", ".join(
        f"{sum(rule.severity is severity for rule in rules)} {severity}s" for severity in Severity
    )
    shown = len(OF_RUN) + len(OF_TREES)
    return _TEXT.format(
        rules=len(rules),
        severities=severities,
        shown=shown,
        rehashed=len(OF_RUN) - len(HIDDEN),
        hidden=", ".join(f"`{rule}`" for rule in sorted(HIDDEN)),
        counts="\n".join(counts(tried)),
        stories="\n".join(stories(audited)),
        runs="\n".join(runs(audited)),
        informative="\n".join(f"| `{_escaped(field)}` | {why} |" for field, why in INFORMATIVE.items()),
        made_up="\n".join(f"| `{_escaped(field)}` | {why} |" for field, why in MADE_UP.items()),
    )


def _escaped(field: str) -> str:
    return field.replace("|", "\\|")


_TEXT = """\
# What an audit shows, and to whom it is blind

`refute audit` reads records and believes none of them. It needs no model, no GPU and no network. This page says
what it is worth against whom. `python tests/support/threats.py` writes it: every row and every count comes from
edits that were tried on an honest record, and a test tries them again.

| against | what helps | what does not |
|---|---|---|
| an honest mistake | verdicts derived again from samples, planted faults, a known-good control, requested against observed settings, probes of the host | |
| a careless edit | digests of every file, verdicts and figures derived again | a field of `findings.json` that is only informative |
| a dishonest editor without the signing key | a signature, git's history, the chain of runs; and samples that contradict times, tokens, other runs or what was planned | without a signature and without git: samples that were made up so that they fit |
| a dishonest operator, who makes the record | a second run: `refute audit --challenge` and `--reproduce`, by somebody else, with a nonce that nobody knew before | any rule: whoever runs the engine can run another one |

A chain of digests proves nothing against who wrote all of it: its head has to be known elsewhere. Commit records,
push them, and sign them where an editor is to be feared.

## Rules

{rules} rules: {severities}. `refute audit --rules` lists them. For each there is a record that
breaks it, of which the audit tells: {shown} of {rules}. {rehashed} of the rules of single runs fire as well after the listing was redone to
fit; the others are those of the listing itself: {hidden}.

## Every field

Each field of what lies in a run is given another value: of its listing, its contract, its telemetry, a
counterexample and three findings (a claim about time, one about tokens, a falsified one). Fields are told by an
error or a warning; a note does not count.

{counts}

Those that survive the second editor are informative: none of them changes a verdict or a status (a test derives
all of them again). In a signed record, or in one that was committed, every edit is told.

| informative | |
|---|---|
{informative}

The third editor makes up samples and derives everything else from them, with the code of the audit itself. What
survives besides:

| made up | |
|---|---|
{made_up}

## What editors may want

Which rules tell of it, in one record, without git and without a signature. A challenge tells of an exchanged
prompt, and of samples that were made up where they are no times; only a repetition tells of times.

{stories}

And of whole runs:

{runs}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        audited = Audited.of(make_tree(Path(folder)))
        text = document(audited, fates(audited))
    DOCUMENT.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT}\n")


if __name__ == "__main__":
    main()
