"""What an audit computes again with the model: a challenge, and claims that are repeated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from refute.audit.challenge import Challenge, backend_of, challenge
from refute.audit.reproduction import Reproduction, newest, reproduce
from refute.audit.subject import Subject
from refute.provenance import model_sha256
from refute.select import Selection, stand_in
from refute.targets.base import Target, TargetError
from refute.targets.fake import FakeTarget
from refute.trials import Controls, Stage
from refute.verdict import Exit, worst_exit

_MIRRORED = ("cpu", "cuda")  # backends whose bits `mirror` gives


@dataclass(slots=True)
class Engine:
    """The bundled runtime on one model, opened once for each backend that records name.

    backend: the one to use instead, where one is named.
    """

    selection: Selection
    backend: str | None = None
    _opened: dict[str, Target] = field(default_factory=dict)
    _replaced: set[str] = field(default_factory=set)  # backends that cannot run here

    def open(self, recorded: str) -> Target:
        """Open it on the backend of a record. Raises `TargetError`."""
        return self._open(self.backend or recorded, self.selection.device)

    def open_for_values(self, recorded: str) -> Target:
        """Open it where only what it computes matters, not how fast. Raises `TargetError`.

        Where the backend of a record cannot run here, for want of its extra or of a GPU, `mirror` gives the
        same bits.
        """
        if recorded not in self._replaced:
            try:
                return self.open(recorded)
            except TargetError:
                if self.backend is not None or recorded not in _MIRRORED or self.selection.device == "gpu":
                    raise
                self._replaced.add(recorded)  # it is not tried again for every case
        return self._open("mirror", "cpu")

    def _open(self, backend: str, device: str) -> Target:
        if backend not in self._opened:
            at = self.selection
            self._opened[backend] = Selection(at.engine, at.model, at.origin, backend, device).open()
        return self._opened[backend]

    @property
    def model_sha256(self) -> str:
        """The model's digest."""
        assert self.selection.model is not None
        return model_sha256(self.selection.model)


@dataclass(frozen=True, slots=True)
class Computed:
    """What came out of both; None: nothing was challenged."""

    challenge: Challenge | None
    reproductions: tuple[Reproduction, ...]

    @property
    def code(self) -> Exit:
        """The worst of both."""
        codes = [each.code for each in self.reproductions]
        return worst_exit(codes if self.challenge is None else [*codes, self.challenge.code])

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "challenge": None if self.challenge is None else self.challenge.to_json(),
            "reproductions": [each.to_json() for each in self.reproductions],
            "computed_exit_code": int(self.code),
        }


def compute(
    subjects: Sequence[Subject],
    engine: Engine,
    *,
    nonce: str | None,
    cases: int,
    claims: Sequence[str],
    margin: float,
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005 (nobody listens)
) -> Computed:
    """Challenge, then repeat claims. Raises `CannotReproduce` and `TargetError`."""
    digest = engine.model_sha256
    entries = [newest(subjects, claim, digest) for claim in claims]
    challenged = None
    if nonce is not None:
        challenged = challenge(
            subjects,
            nonce,
            model_sha256=digest,
            count=cases,
            open_target=engine.open_for_values,
            progress=progress,
        )
    repeated = []
    for entry in entries:
        target = engine.open(backend_of(entry[2]))
        controls = Controls(FakeTarget, stand_in)
        repeated.append(
            reproduce(entry, target, controls, margin=margin, report=lambda stage: _told(progress, stage))
        )
    return Computed(challenged, tuple(repeated))


def _told(progress: Callable[[int, int], None], stage: Stage) -> None:
    progress(stage.done, stage.total)
