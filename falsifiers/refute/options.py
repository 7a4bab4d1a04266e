"""What pytest was told about refute: options, then ini keys, then defaults; and which files are ours."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from refute.recordable import Requested
from refute.report.words import shown
from refute.select import (
    BACKEND,
    BACKEND_HELP,
    ENGINES,
    ENGINES_HELP,
    MMAP_HELP,
    MODEL_VARIABLE,
    Engine,
    Named,
    Selection,
    check_runtime,
    endpoint_among,
    select,
)
from refute.strict_json import LARGEST

_GROUP = "refute: attacks on the claims of inference engines"
# name: metavar, what it is, default
_VALUES = {
    "model": ("FILE", f"the GGUF file to attack; else ${MODEL_VARIABLE}, else the embedded model", ""),
    "backend": ("NAME", f"the runtime's backend; {BACKEND_HELP}", BACKEND),
    "device": ("NAME", "the backend's device", "auto"),
    "endpoint": ("URL", "a server of OpenAI's API to attack instead, such as http://127.0.0.1:8080/v1", ""),
    "model-name": ("NAME", "the model at the endpoint; not needed where it serves one", ""),
    "api-key-env": ("VAR", "the environment variable that holds the endpoint's key", ""),
    "dialect": ("NAME", "what the endpoint speaks, where it does not say so itself: vllm, for example", ""),
    "evidence": ("DIR", "the tree that records go to", "evidence"),
    "seed": ("N", "the seed that every case and sample follows from", "0"),
}
_CONTRACT_KEY = re.compile(rb"""^["']?falsifiers["']?[ \t]*:""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Options:
    """evidence: the tree of records. faults_only: plant the faults, attack nothing, record nothing.

    every_fault: of faults_only, plant every fault for every falsifier.
    """

    selection: Selection
    evidence: Path
    seed: int
    faults_only: bool
    every_fault: bool

    @classmethod
    def read(cls, config: pytest.Config) -> "Options":
        """Read them. Raises `UsageError` with a sentence."""
        seed = _value(config, "seed")
        if not re.fullmatch("[0-9]{1,30}", seed) or int(seed) > LARGEST:
            raise pytest.UsageError(f"refute: seed {seed!r}: expected a whole number from 0 to {LARGEST}")
        backend, device = _value(config, "backend"), _value(config, "device")
        engine, endpoint = config.getoption("refute_target"), _endpoint(config)
        chosen: Engine = engine or ("bundled" if endpoint is None else "openai")
        try:
            check_runtime(chosen, backend, device)
        except ValueError as error:
            raise pytest.UsageError(f"refute: {error}") from None
        selection = select(
            engine=chosen,
            model=_path(config, "model"),
            backend=backend,
            device=device,
            environ=os.environ,
            endpoint=endpoint,
            mmap=config.getoption("refute_mmap"),
            processes=int(getattr(config, "workerinput", {}).get("workercount", 1)),
        )
        if selection.missing and config.getoption("refute_model"):
            raise pytest.UsageError(f"refute: {selection.missing}")
        evidence = _path(config, "evidence")
        assert evidence is not None
        every = config.getoption("refute_every_fault")
        return cls(selection, evidence, int(seed), every or config.getoption("refute_faults"), every)

    def requested(self, config: pytest.Config) -> Requested:
        """Say what was asked for, as records keep it."""
        option = config.option
        return Requested.of(
            self.selection,
            seed=self.seed,
            workers=getattr(option, "numprocesses", None),
            keyword=option.keyword or None,
            markers=option.markexpr or None,
        )

    def header(self) -> list[str]:
        """Say what is attacked and where the evidence goes."""
        kept = "none is kept (faults only)" if self.faults_only else f"goes to {shown(self.evidence)}"
        lines = [f"attacks {self.selection}", f"evidence {kept}; seed {self.seed}"]
        if self.selection.origin == "embedded":
            lines.insert(1, f"the full model is absent (${MODEL_VARIABLE} is not set): its claims stay open")
        return lines


OPTIONS: pytest.StashKey[Options] = pytest.StashKey()


def add_options(parser: pytest.Parser) -> None:
    """Add the options and their ini keys."""
    group = parser.getgroup("refute", _GROUP)
    for option, (metavar, text, default) in _VALUES.items():
        shown = f"{text} (default: {default})" if default else text
        group.addoption(f"--refute-{option}", metavar=metavar, help=shown)
        parser.addini(f"refute_{_field(option)}", text, default=default)
    for name, value in (("mmap", True), ("no-mmap", False)):
        group.addoption(
            f"--refute-{name}",
            dest="refute_mmap",
            action="store_const",
            const=value,
            default=None,
            help=MMAP_HELP if value else "the opposite",
        )
    group.addoption(
        "--refute-target",
        choices=ENGINES,
        help=f"{ENGINES_HELP} (default: bundled, or openai with an endpoint)",
    )
    group.addoption(
        "--refute-faults",
        action="store_true",
        help="only plant the faults that must be caught: attack no claim, write no record",
    )
    group.addoption(
        "--refute-every-fault",
        action="store_true",
        help="like --refute-faults, with every fault for every falsifier: which ones does nobody catch?",
    )
    parser.addini("refute_contracts", "folders and files with contracts (default: contracts)", type="paths")


def is_contract(config: pytest.Config, path: Path) -> bool:
    """Whether a file is one of this project's contracts.

    In the folders that the ini key names every YAML file is one. In the default folder, which other
    tools use too, it must declare falsifiers.
    """
    if path.suffix not in (".yaml", ".yml"):
        return False
    named: list[Path] = config.getini("refute_contracts")
    if named:
        return path in named or path.parent in named
    return path.parent == config.rootpath / "contracts" and _declares(path)


def contract_files(config: pytest.Config) -> list[Path]:
    """Return the contracts that this session's arguments lead to, sorted."""
    roots: list[Path] = config.getini("refute_contracts") or [config.rootpath / "contracts"]
    arguments = [(config.invocation_params.dir / each.partition("::")[0]).resolve() for each in config.args]
    files = {path for root in roots for path in ([root] if root.is_file() else root.glob("*.y*ml"))}
    return sorted(
        path
        for path in files
        if any(path.resolve().is_relative_to(each) for each in arguments) and is_contract(config, path)
    )


def reruns(config: pytest.Config, items: Iterable[pytest.Item]) -> bool:
    """Whether a plugin would run any of these again after a failure."""
    if config.getoption("reruns", None) or any(item.get_closest_marker("flaky") for item in items):
        return True
    try:
        return bool(int(config.getini("reruns") or 0))
    except (KeyError, ValueError):
        return False


def _endpoint(config: pytest.Config) -> Named | None:
    """The server that is named. Raises `UsageError` for options that do not go with it."""
    names = ("model", "backend", "device", "target", "mmap")
    given = {name: config.getoption(f"refute_{name}") for name in names}
    given |= {name: _value(config, name) for name in ("endpoint", "model-name", "api-key-env", "dialect")}
    try:
        named = endpoint_among({_field(name): value for name, value in given.items()}, os.environ)
    except ValueError as error:
        raise pytest.UsageError(f"refute: {error}") from None
    asked = named is not None and named.model is None and contract_files(config)
    return _with_model(config, named) if named is not None and asked else named


def _with_model(config: pytest.Config, endpoint: Named) -> Named:
    """Name a server's only model, for xdist's workers too. Raises `UsageError` where it has several.

    Where nobody answers it stays open: the falsifiers are then blocked.
    """
    from refute.targets.base import TargetError  # noqa: PLC0415 (start-up time)
    from refute.wire.about import Unnamed, only_model  # noqa: PLC0415 (start-up time)

    try:
        model = only_model(endpoint.url, endpoint.key)
    except Unnamed as error:
        raise pytest.UsageError(f"refute: {error}") from None
    except TargetError:
        return endpoint
    config.option.refute_model_name = model
    return replace(endpoint, model=model)


def _field(option: str) -> str:
    return option.replace("-", "_")


def _value(config: pytest.Config, option: str) -> str:
    name = f"refute_{_field(option)}"
    given = config.getoption(name)
    return str(config.getini(name) if given is None else given)


def _path(config: pytest.Config, name: str) -> Path | None:
    """Read a path: an option counts from where pytest was started, an ini key from the root."""
    text = _value(config, name)
    from_line = config.getoption(f"refute_{name}") is not None
    base = config.invocation_params.dir if from_line else config.rootpath
    return base / Path(text).expanduser() if text else None


def _declares(path: Path) -> bool:
    try:
        return _CONTRACT_KEY.search(path.read_bytes()) is not None
    except OSError:
        return False
