"""The meaning of a contract as one digest: records made under another meaning are stale."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refute.contract import Falsifier, ModelClaim


def semantic_sha256(identity: str, model: "ModelClaim", falsifiers: "Sequence[Falsifier]") -> str:
    """Digest what decides verdicts: neither prose nor the order of anything."""
    import rfc8785  # noqa: PLC0415

    meaning: Any = {
        "schema": "urn:refute:meaning:contract:1",
        "id": identity,
        "model": {**dataclasses.asdict(model), "sha256": sorted(model.sha256)},
        "falsifiers": {falsifier.id: _meaning(falsifier) for falsifier in falsifiers},
    }
    return hashlib.sha256(rfc8785.dumps(meaning)).hexdigest()


def _meaning(falsifier: "Falsifier") -> dict[str, Any]:
    bound: dict[str, Any] = {
        name: value for name, value in dataclasses.asdict(falsifier.bound).items() if value is not None
    }
    if falsifier.bound.testbeds is not None:
        bound["testbeds"] = sorted(falsifier.bound.testbeds)
    return {
        "kind": falsifier.kind,
        "requires": sorted(falsifier.requires),
        "with": falsifier.parameters,
        "bound": bound,
        "must_catch": sorted(map(str, falsifier.must_catch)),
        "needs": sorted(falsifier.needs),
        "discharge": str(falsifier.discharge),
    }
