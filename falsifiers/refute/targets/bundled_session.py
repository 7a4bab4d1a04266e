"""One sequence in the bundled runtime, and how its objects and errors become the framework's.

Like `bundled`, it imports `refute_runtime` late.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.faults.planted import Planted
from refute.faults.tokenizer import wrap_tokenizer
from refute.targets.base import Counters, Delivery, TargetError
from refute.targets.delivery import deliver
from refute.targets.scores import Scores, Stopped

if TYPE_CHECKING:
    import numpy as np

    from refute_runtime.backends.base import Cache
    from refute_runtime.engine import Engine, Token


class BundledSession:
    """One sequence in the bundled runtime."""

    def __init__(self, engine: "Engine", cache: "Cache", planted: Planted) -> None:
        self._engine = engine
        self._cache = cache
        self._planted = planted

    @property
    def length(self) -> int:
        return self._cache.length

    def extend(self, tokens: Sequence[int], *, routing: bool = False) -> Scores:
        """Run tokens in one forward; raises `TargetError` for none, or for more than fit."""
        import numpy as np  # noqa: PLC0415  (heavy)

        if not tokens:
            raise TargetError("a forward of no tokens; expected one or more")
        with failures():
            forward = self._engine.model.forward(tokens, self._cache, last_only=False, routing=routing)
        counters = Counters()
        if not self._planted.has("counters-stuck"):
            counters = Counters(**asdict(forward.counters))
        if forward.routing is None or not self._engine.config.moe:
            return Scores(forward.logits, counters=counters)
        shape = (len(tokens), len(forward.routing), self._engine.config.experts_per_token)
        experts, weights = np.full(shape, -1), np.zeros(shape, np.float32)
        for place, layer in enumerate(forward.routing):
            if layer.experts.size:  # else it ran as a dense layer
                experts[:, place], weights[:, place] = layer.experts, layer.weights
        gaps = np.stack([layer.gap for layer in forward.routing], axis=1)
        return Scores(forward.logits, experts, weights, gaps, counters)

    def fork(self) -> "BundledSession":
        return BundledSession(self._engine, self._cache.fork(), self._planted)

    def trim(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise TargetError(f"cannot trim a sequence of {self.length} tokens to {length}")
        self._cache.truncate(length)

    def stop(self, token: int, *, after: int, of: int, routing: bool = False) -> Stopped:
        """Generate over the sequence's own cache, as the engine's documentation says, until told to stop."""
        routing = routing and self._engine.config.moe

        def opens(taken: "Callable[[Token], object] | None") -> "Generator[Token, None, None]":
            return self._engine.generate(
                [token], max_tokens=of, cache=self._cache, stop=False, on_token=taken, routing=routing
            )

        with failures():
            given, _ = deliver(self._planted.streamed(opens), Delivery("callback", after), lambda: 0)
        return Stopped(
            tuple(each.id for each in given[:after]),
            _experts(given[:after], self._engine.config.experts_per_token) if routing else None,
        )


def _experts(tokens: "Sequence[Token]", width: int) -> "np.ndarray":
    """Experts (T, L, K) of each token's forward, as in `Scores`: -1 where a layer ran none."""
    import numpy as np  # noqa: PLC0415  (heavy)

    decided = [token.routing.experts for token in tokens if token.routing is not None]
    return np.array([[layer or (-1,) * width for layer in layers] for layers in decided])


def engine_with(engine: "Engine", fault: Fault) -> "Engine":
    """Return an engine with a fault of the tokenizer, which templates and answers then have too."""
    from refute_runtime.tokenizer import Tokenizer  # noqa: PLC0415  (heavy)

    if FAULTS[fault.name].seam != "tokenizer":
        return engine
    faulty = wrap_tokenizer(
        fault, engine.tokenizer, lambda: Tokenizer.from_metadata(engine.file.metadata, nfc=False)
    )
    return type(engine)(engine.file, engine.config, engine.weights, cast("Tokenizer", faulty), engine.backend)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the runtime raises for bad input into the target's own error, with the same sentence."""
    from refute_runtime.errors import RuntimeFailure  # noqa: PLC0415

    try:
        yield
    except RuntimeFailure as error:
        raise TargetError(str(error)) from error


def settings_of(engine: "Engine") -> dict[str, object]:
    """What a record says of how an engine was set."""
    import numpy as np  # noqa: PLC0415  (heavy)

    template = engine.file.metadata.get("tokenizer.chat_template")
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return {
        **engine.settings,
        "numpy": np.__version__,
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest()
        if isinstance(template, str)
        else None,
        "tokenizer_nfc": engine.tokenizer.nfc,
    }
