"""`refute doctor`: what stands in the way of a run, and what to do about it."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import (
    HOME_HELP,
    add_paths,
    add_target,
    choose,
    contracts_of,
    endpoint_of,
    home_of,
    policy_of,
)
from refute.report.output import console_on
from refute.verdict import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from refute.commands.shared import Commands
    from refute.contract import Contract
    from refute.doctor.base import Check
    from refute.select import Named


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor", help="look for what stands in the way of a run, and how to mend it"
    )
    parser.description = (
        "Check model, host and tools before a long run. Exit code 5 where no run is possible as things are."
    )
    add_paths(parser)
    add_target(parser)
    parser.add_argument("--evidence", metavar="DIR", help=HOME_HELP)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(execute=_doctor)


def _doctor(arguments: argparse.Namespace) -> Exit:
    from refute.doctor.base import Diagnosis
    from refute.report.doctor import show_diagnosis

    endpoint = endpoint_of(arguments)
    contracts = contracts_of(arguments.paths, foreign=True)
    console = console_on(sys.stderr if arguments.json else sys.stdout)
    diagnosis = Diagnosis.of(_checks(arguments, contracts, endpoint, console))
    if arguments.json:
        print(json.dumps(diagnosis.to_json(), indent=2))
    else:
        show_diagnosis(diagnosis, console)
    return diagnosis.code


def _checks(
    arguments: argparse.Namespace,
    contracts: "Sequence[Contract]",
    endpoint: "Named | None",
    console: "Console",
) -> "Iterator[Check]":
    from refute.doctor import cpu, cuda, gpu, host, model
    from refute.report.progress import hashing

    needs = None
    if endpoint is not None:
        yield from model.look_at_endpoint(endpoint)
    else:
        selection = choose(arguments, "bundled")
        assert selection.model is not None
        with hashing(console) as progress:
            file = list(model.look_at_file(selection.model, contracts, progress))
        yield from file
        if file[0].state == "ok":
            how = (selection.backend, selection.device, selection.mmap)
            checks, needs = model.look_into_file(selection.model, *how)
            yield from checks
        if selection.device != "gpu" and selection.backend not in ("array", "mirror"):
            yield from cpu.look_at_kernels()
        if selection.device != "cpu" and selection.backend in ("auto", "cuda"):
            wanted = selection.backend == "cuda" or selection.device == "gpu"
            yield from cuda.look_at_cuda(cuda.found(), wanted=wanted)
    if needs is not None:
        yield from host.look_at_memory(needs)
    yield from gpu.look_at_gpus(needs)
    home = home_of(arguments, policy_of(contracts))
    yield from host.look_at_disk(home, needs)
    yield from host.look_at_host()
    yield from host.look_at_noise()
    yield from host.look_at_python()
    yield from host.look_at_git(Path(), home)
