"""Kinds that other distributions bring: entry points of the group `refute.kinds`, name -> class.

Entry points are looked at when contracts are linted, or when someone names a kind that is not built in; code
of others is imported only when a contract names its kind. Whatever is wrong with it becomes a sentence.
"""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from refute.kinds.base import Kind

GROUP = "refute.kinds"
_CODE = (".py", ".so", ".pyd")


class UnknownKind(KeyError):  # noqa: N818 (it is an answer about a contract, not a failure of ours)
    """No kind has that name here; the message is a sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


class UnusableKind(UnknownKind):
    """A kind of that name is installed and cannot be used; the message says whose it is, and why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose rule judges. digest: of the code of the package (or module) that holds it; None if unreadable.

    What that package imports of others is not in the digest.
    """

    distribution: str
    version: str
    digest: str | None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({(self.digest or 'code unknown')[:12]})"


@functools.cache
def registered() -> Mapping[str, tuple[EntryPoint, ...]]:
    """Entry points by the names of their kinds; usually one each. It lasts as long as the process."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def load(name: str) -> type[Kind[Any]]:
    """Import the class of a registered kind. Raises `UnknownKind`, or `UnusableKind` with the reason."""
    whose = _whose(name)
    point, *others = registered()[name]
    if others:
        raise UnusableKind(f"kind {name!r} is registered twice, by {whose}; uninstall one of them")
    try:
        kind = point.load()
    except (Exception, SystemExit) as error:
        raise UnusableKind(
            f"kind {name!r} of {whose} cannot be imported ({type(error).__name__}: {error})"
        ) from error
    why = _unfit(kind, name)
    if why:
        raise UnusableKind(f"kind {name!r} of {whose} cannot be used: {point.value} {why}")
    checked: type[Kind[Any]] = kind
    return checked


def origin_of(name: str) -> Origin | None:
    """Say who registered a kind; None of a name that nobody, or more than one, did."""
    points = registered().get(name, ())
    if len(points) != 1:
        return None
    from refute.provenance import package_digest  # noqa: PLC0415 (not needed for kinds that are built in)

    (point,) = points
    distribution, version = _distribution(point)
    steps = point.module.split(".")
    packages = (".".join(steps[: depth + 1]) for depth in range(len(steps)))
    try:  # the outermost package that has code; above it there may be namespaces, which have none
        digests = (package_digest(package, suffixes=_CODE) for package in packages)
        digest = next((each for each in digests if each is not None), None)
    except (ImportError, OSError, ValueError):
        digest = None
    return Origin(distribution, version, digest)


def shadowing(name: str) -> str:
    """Who registers a kind of this name; empty where nobody does."""
    return _whose(name) if name in registered() else ""


def _whose(name: str) -> str:
    if name not in registered():
        raise UnknownKind(f"kind {name!r} is not installed here")
    return " and ".join(" ".join(_distribution(point)) for point in registered()[name])


def _distribution(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "a distribution without a name", "?"
    return point.dist.name, point.dist.version


def _unfit(kind: object, name: str) -> str:
    """Why a loaded object cannot serve as the kind of this name; empty if it can."""
    if not isinstance(kind, type) or not issubclass(kind, Kind):
        return "is no kind; expected a class derived from Searched, Planned or Measured of refute.api"
    if inspect.isabstract(kind):
        return f"lacks {', '.join(sorted(kind.__abstractmethods__))}"
    if not hasattr(kind, "bound_fields"):
        return "lacks bound_fields, the fields of a bound that it uses"
    if kind.name != name:
        return f"calls itself {kind.name!r}; expected the name of its entry point, {name!r}"
    if not dataclasses.is_dataclass(kind.parameters_type):
        return f"has parameters of {kind.parameters_type!r}; expected a frozen dataclass"
    return ""
