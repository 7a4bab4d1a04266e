"""What was asked for and what is attacked, as plain data that records hold."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refute.finding import Setting
from refute.redaction import sentence

if TYPE_CHECKING:
    from refute.select import Selection
    from refute.targets.base import Target

_REPORTED = ("backend", "device", "numerics", "threads")  # among the settings that engines report
_OF_IDENTITY = ("model_name", "model_sha256")
_OPEN = "auto"  # asked for, it leaves the choice to the engine


@dataclass(frozen=True, slots=True)
class Requested:
    """What a run was asked for, before anything was opened. None is what was left open.

    model: the file's name. workers: processes beside the one that keeps the records; None for none.
    """

    target: str | None = None
    model: str | None = None
    model_origin: str | None = None
    backend: str | None = None
    device: str | None = None
    endpoint: str | None = None
    model_name: str | None = None
    dialect: str | None = None
    seed: int | None = None
    workers: int | None = None
    keyword: str | None = None
    markers: str | None = None
    profile: str | None = None

    @classmethod
    def of(cls, selection: "Selection", **rest: Any) -> "Requested":
        """Take what a selection says; what does not belong to its engine was not asked for."""
        bundled, at = selection.engine == "bundled", selection.endpoint
        return cls(
            target=selection.engine,
            model=None if selection.model is None else selection.model.name,
            model_origin=selection.origin,
            backend=selection.backend if bundled and selection.backend != _OPEN else None,
            device=selection.device if bundled and selection.device != _OPEN else None,
            endpoint=None if at is None else at.url,
            model_name=None if at is None else at.model,
            dialect=None if at is None else at.dialect,
            **rest,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data, without what looks like a secret."""
        said = dataclasses.asdict(self)
        return {name: sentence(value) if isinstance(value, str) else value for name, value in said.items()}


NOTHING = Requested()


def settings_of(requested: Requested, identity: Mapping[str, Any], seed: int) -> tuple[Setting, ...]:
    """Line up what was asked for and what an engine says of itself.

    identity: as `identity_as_data` gives it; empty where nothing was opened.
    """
    asked, told = requested.to_json(), _said(identity)
    settings = [
        Setting(name, asked.get(name), told[name], None)
        for name in told
        if asked.get(name) is not None or told[name] is not None
    ]
    return (*settings, Setting("seed", requested.seed, seed, None))


def observed(settings: Iterable[Setting], identity: Mapping[str, Any]) -> tuple[Setting, ...]:
    """Add what the engine reports of itself once it has answered."""
    told = _said(identity)
    return tuple(dataclasses.replace(each, observed=told.get(each.name)) for each in settings)


def _said(identity: Mapping[str, Any]) -> dict[str, str | int | None]:
    """What an identity says of each setting; None where it says nothing."""
    return dict(_members(identity))


def _members(identity: Mapping[str, Any]) -> Iterator[tuple[str, str | int | None]]:
    for names, holder in ((_REPORTED, identity.get("settings", {})), (_OF_IDENTITY, identity)):
        for name in names:
            value = holder.get(name)
            yield name, value if value is None or isinstance(value, str | int) else str(value)


def identity_as_data(target: "Target") -> dict[str, Any]:
    """The target's identity and capabilities as JSON data; of the path only the file's name is kept."""
    data = dataclasses.asdict(target.identity)
    path = data["model_path"]
    data["model_path"] = None if path is None else path.replace("\\", "/").rsplit("/", 1)[-1]
    settings = {
        name: sentence(value) if isinstance(value, str) else value for name, value in data["settings"].items()
    }
    return {**data, "settings": settings, "capabilities": sorted(target.capabilities)}
