"""Greedy generation over a session, one forward after the other, for engines whose loop is ours."""

from collections.abc import Callable, Generator

import numpy as np

from refute.faults.stream import Opens
from refute.targets.base import Delivery
from refute.targets.delivery import deliver
from refute.targets.scores import Scores, Session, Stopped

Chosen = tuple[int, Scores]
"""A token, and the scores of the forward that it was chosen by."""


def greedy(session: Session, token: int, of: int, *, routing: bool) -> Opens[Chosen]:
    """Return what generates up to `of` tokens after `token`; a callback that returns False ends it."""

    def opens(taken: Callable[[Chosen], object] | None) -> Generator[Chosen, None, None]:
        following = token
        for _ in range(of):
            scores = session.extend([following], routing=routing)
            following = int(scores.logits[-1].argmax())
            wanted = taken is None or taken((following, scores)) is not False
            yield following, scores
            if not wanted:
                return

    return opens


def stopped(opens: Opens[Chosen], after: int) -> Stopped:
    """Run a generation until its callback has `after` tokens and wants no more."""
    given, _ = deliver(opens, Delivery("callback", after), lambda: 0)
    experts = [scores.experts for _, scores in given[:after] if scores.experts is not None]  # each (1, L, K)
    return Stopped(tuple(token for token, _ in given[:after]), np.concatenate(experts) if experts else None)
