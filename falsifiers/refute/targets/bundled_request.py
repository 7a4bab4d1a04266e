"""One request in the bundled runtime: which cache, sampler and delivery it goes through, and what came of it.

Like `bundled`, it imports `refute_runtime` late.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from refute.faults.backend import CountedForwards
from refute.faults.planted import Planted
from refute.faults.sampler import WrappedSampler
from refute.targets.base import Clock, Counters, Generation, Refusal, Request, Routing
from refute.targets.delivery import deliver

if TYPE_CHECKING:
    from refute_runtime.engine import DrawsTokens, Engine, Token


def run(engine: "Engine", request: Request, planted: Planted, clock: Clock, *, excess: int) -> Generation:
    """Generate. excess: bytes that are held meanwhile. Raises `Refusal` for what is not admitted."""
    from refute_runtime.errors import RuntimeFailure  # noqa: PLC0415  (heavy)
    from refute_runtime.sampling import Sampler, SamplingParams  # noqa: PLC0415  (heavy)

    cached, cache = request.cache and not planted.cache_ignored(), None
    counting = CountedForwards(engine.backend)
    if request.delivery is not None:
        engine = engine.with_backend(counting)
    if cached and planted.cache is not None:  # else the engine makes one, once it has checked the request
        cache = engine.new_cache(len(request.prompt) + request.max_tokens)
        cache = planted.cache(cache, len(request.prompt))
    held = b"\1" * excess  # written, so that it is resident
    params = SamplingParams(**asdict(planted.sampling(request.sampling)))
    sampler: DrawsTokens | None = None
    if planted.sampler is not None:
        sampler = WrappedSampler(Sampler(params), planted.sampler, request.sampling, len(request.prompt))
    started = clock()

    def opens(taken: "Callable[[Token], object] | None") -> Generator["Token", None, None]:
        try:  # the engine checks a request when it is asked, and computes when it is asked for tokens
            return engine.generate(
                request.prompt,
                params,
                max_tokens=request.max_tokens,
                cache=cache,
                sampler=sampler,
                chunks=request.chunks if cached else (),
                twin=not cached,
                stop=request.stop,
                on_token=taken,
                routing=request.routing,
                clock=clock,
            )
        except RuntimeFailure as error:
            raise Refusal(str(error)) from error

    if request.delivery is None:
        tokens = list(opens(None))
        del held
        return _generation(request, started, tokens, planted)
    tokens, progress = deliver(planted.streamed(opens), request.delivery, lambda: counting.begun)
    return replace(_generation(request, started, tokens, planted), progress=progress)


def _generation(request: Request, started: int, tokens: Sequence["Token"], planted: Planted) -> Generation:
    counted = [token.counters for token in tokens]
    if planted.has("counters-stuck"):
        counted = counted[: max(len(counted) - int(planted.dose), 0)]
    done = Counters(**asdict(reduce(add, counted))) if counted else Counters()
    decided = [token.routing for token in tokens if token.routing is not None]
    routing = Routing(tuple(r.experts for r in decided), tuple(r.gaps for r in decided))
    return Generation(
        tokens=tuple(token.id for token in tokens),
        started_ns=started,
        prefilled_ns=tokens[0].prefilled_ns,
        token_ns=tuple(token.time_ns for token in tokens),
        counters=done,
        margins=tuple(token.margin for token in tokens) if request.margins else None,
        routing=routing if decided else None,
        text="".join(token.text for token in tokens),
    )
