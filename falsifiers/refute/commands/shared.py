"""What commands share: how one is refused, arguments that several take, contracts, targets."""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refute.select import BACKEND, BACKEND_HELP, BACKENDS, ENGINES, ENGINES_HELP, MMAP_HELP
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.contract import Contract
    from refute.policy import Policy
    from refute.select import Engine, Named, Selection
    from refute.signing import PublicKey

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (it has no other name)

Command = Callable[[argparse.Namespace], Exit]
DEFAULT_TREES = (Path("evidence"),)  # itself where no tree was named
HOME_HELP = "the tree that records go to (default: the first of [tool.refute], else ./evidence)"


class Refused(Exception):  # noqa: N818 (an answer to a person)
    """Ends a command with sentences and an exit code."""

    def __init__(self, code: Exit, *sentences: object) -> None:
        super().__init__("\n".join(map(str, sentences)))
        self.code = code


def count(least: int, most: int = 10**9) -> Callable[[str], int]:
    """Return a reader of whole numbers between two."""

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > 10 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {least} to {most}")
        return int(text)

    return read


def add_paths(parser: argparse.ArgumentParser) -> None:
    """Add the contracts that a command is about."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="contracts, or folders of them (default: ./contracts, else those that come with refute)",
    )


def add_trees(parser: argparse.ArgumentParser, *, as_json: bool = True) -> None:
    """Add the trees of records that a command reads. as_json: whether it can write JSON too."""
    parser.add_argument(
        "--evidence",
        nargs="+",
        type=Path,
        default=DEFAULT_TREES,
        metavar="TREE",
        help="trees of records (default: those of [tool.refute] in ./pyproject.toml, else evidence)",
    )
    if as_json:
        parser.add_argument("--json", action="store_true", help="as JSON")


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add what is attacked: a model file in an engine, or an endpoint."""
    target = parser.add_argument_group("what is attacked")
    add_model(target)
    target.add_argument("--target", choices=ENGINES, help=ENGINES_HELP)
    target.add_argument(
        "--endpoint",
        metavar="URL",
        help="a server of OpenAI's API, such as http://127.0.0.1:8080/v1, instead of a model file",
    )
    target.add_argument(
        "--model-name", metavar="NAME", help="the model at the endpoint (default: the only one it serves)"
    )
    target.add_argument(
        "--api-key-env", metavar="VAR", help="the environment variable that holds the endpoint's key"
    )
    target.add_argument(
        "--dialect",
        metavar="NAME",
        help="what the endpoint speaks, where it does not say so itself: vllm, sglang, llama.cpp, ...",
    )


def add_model(group: argparse._ArgumentGroup) -> None:
    """Add a model file and how the bundled runtime runs it."""
    group.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a GGUF file (default: $QWEN3_MOE_GGUF_PATH, else the embedded model)",
    )
    group.add_argument("--backend", metavar="|".join(BACKENDS), help=f"{BACKEND_HELP} (default: {BACKEND})")
    group.add_argument("--device", metavar="NAME", help="the backend's device (default: auto)")
    group.add_argument("--mmap", action=argparse.BooleanOptionalAction, help=MMAP_HELP)


def endpoint_of(arguments: argparse.Namespace) -> "Named | None":
    """The server that the arguments name. Raises `Refused` for options that do not go with it."""
    from refute.select import endpoint_among

    try:
        return endpoint_among(vars(arguments), os.environ)
    except ValueError as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None


def selected(arguments: argparse.Namespace, engine: "Engine", endpoint: "Named | None" = None) -> "Selection":
    """The model that the arguments name, for this engine. Raises `Refused` where it is not there."""
    selection = choose(arguments, engine, endpoint)
    if selection.missing:
        raise Refused(Exit.MISSING, f"refute: {selection.missing}")
    return selection


def choose(arguments: argparse.Namespace, engine: "Engine", endpoint: "Named | None" = None) -> "Selection":
    """The same, also where it is not there. Raises `Refused` for a backend or device that does not exist."""
    from refute.select import check_runtime, select

    backend, device = arguments.backend or BACKEND, arguments.device or "auto"
    try:
        check_runtime(engine, backend, device)
    except ValueError as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    return select(
        engine=engine,
        model=arguments.model,
        backend=backend,
        device=device,
        environ=os.environ,
        endpoint=endpoint,
        mmap=arguments.mmap,
    )


def contracts_of(paths: Sequence[Path], *, foreign: bool = False) -> "list[Contract]":
    """Load contracts; every fault in them is a sentence. Raises `Refused`.

    foreign: kinds may be missing here, as where records of others are read; their claims are then stale.
    """
    from refute.contract import load_contract
    from refute.contract_files import find_contracts
    from refute.kinds import ANY, INSTALLED
    from refute.lint import lint

    kinds = ANY if foreign else INSTALLED
    problems = lint(paths, root=Path(), kinds=kinds)
    if problems:
        raise Refused(Exit.USAGE, *problems)
    return [load_contract(path, kinds=kinds) for path in find_contracts(Path(), paths)]


def policy_of(contracts: "Sequence[Contract]") -> "Policy":
    """Read the policy of the working directory; every fault in it is a sentence. Raises `Refused`."""
    from datetime import UTC, datetime

    from refute.contract import ContractError, declared
    from refute.policy_file import read_policy

    claims = list(map("/".join, declared(contracts)))
    try:
        reading = read_policy(Path(), claims, datetime.now(UTC).date())
    except ContractError as error:
        raise Refused(Exit.USAGE, *error.problems) from None
    if reading.policy is None:
        raise Refused(Exit.USAGE, *reading.problems)
    return reading.policy


def keys_of(paths: "Iterable[Path]") -> "list[PublicKey]":
    """Read public keys. Raises `Refused`."""
    from refute.signing import SigningError, load_public_key

    try:
        return [load_public_key(path) for path in paths]
    except SigningError as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None


def trees_of(arguments: argparse.Namespace, policy: "Policy") -> Sequence[Path]:
    """The trees of records that the arguments name, else those of the policy. Raises `Refused`."""
    named: Sequence[Path] = arguments.evidence
    for tree in named if named is not DEFAULT_TREES else ():
        if not tree.is_dir():
            what = "is no folder" if tree.exists() else "no such folder"
            raise Refused(Exit.MISSING, f"refute: {tree}: {what}; expected a tree of records, CONTRACT/RUN/")
    return policy.evidence if named is DEFAULT_TREES else named


def home_of(arguments: argparse.Namespace, policy: "Policy") -> Path:
    """The tree that a run writes to: the one that is named, else the first that all other commands read."""
    if arguments.evidence is not None:
        return Path(arguments.evidence)
    return policy.evidence[0] if policy.evidence else DEFAULT_TREES[0]
