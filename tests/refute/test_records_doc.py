"""docs/records.md: it names what records hold, and nothing that they do not."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from refute import noise
from refute.cli import main
from refute.reader import CONTRACT, LOG, SIGNATURE, SUMMARY, TELEMETRY
from refute.schemas import schema_text
from refute.verdict import Exit

PAGE = (Path(__file__).parents[2] / "docs/records.md").read_text()


def section(title):
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_file_of_a_run_is_named():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    named = {re.match(r"\| `([^`]+)`", line)[1] for line in rows}
    assert named >= {SUMMARY, CONTRACT, LOG, TELEMETRY, SIGNATURE}


def test_every_part_of_a_list_is_explained():
    properties = json.loads(schema_text("findings"))["properties"].keys()
    listings = {"schema", "run", "contract", "findings", "files"}  # the table of files says it
    explained = {
        name for line in section("findings.json").splitlines() for name in re.findall(r"^- `(\w+)`", line)
    }
    assert explained == properties - listings


def test_every_part_of_a_probe_is_explained():
    definitions = json.loads(schema_text("finding"))["$defs"]
    for name in (*definitions["probe"]["properties"], *definitions["noise"]["properties"]):
        assert f"`{name}`" in section("A finding")
    for name in ("requested", "effective", "observed"):
        assert name in definitions["setting"]["properties"]
        assert f"`{name}`" in section("A finding")


def test_the_bounds_of_noise_are_those_that_are_held():
    assert (noise.WAITING, noise.VARIATION, noise.STOLEN) == (0.75, 2.0, 0.2)
    assert (noise.LATE_US, noise.SLOWDOWN) == (10_000.0, 3.0)
    said = " ".join(section("A finding").split())
    for words in ("three quarters", "200 %", "a fifth", "10 ms late", "three times as slow"):
        assert words in said


@pytest.mark.parametrize("name", ["contract", "finding", "findings", "telemetry", "counterexample"])
def test_every_schema_can_be_had(capsys, name):
    assert main(["schema", name]) == Exit.OK
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert name in schema["$id"]


def test_without_a_name_it_is_that_of_contracts(capsys):
    assert main(["schema"]) == Exit.OK
    assert capsys.readouterr().out == schema_text("contract")
