"""How xdist spreads falsifiers over workers: claims about time come last, alone on the host.

A worker begins an item once it knows the next one, or that there is none. So the worker that is going to
measure is given the first timing item as the next of its last other one, and waits with it in hand until
every other worker has nothing left to do.
"""

from collections.abc import Callable
from typing import Any

import pytest
from xdist.scheduler.load import LoadScheduling
from xdist.workermanage import WorkerController

_AHEAD = 2  # the item that runs and the one that has to be known


class TimingLast(LoadScheduling):  # type: ignore[misc]  # xdist is not annotated for others
    """Load scheduling in two phases. timing: whether the item of a node id measures times."""

    collection: list[str] | None
    pending: list[int]
    nodes: list[WorkerController]
    node2pending: dict[WorkerController, list[int]]

    def __init__(self, config: pytest.Config, log: Any, timing: Callable[[str], bool]) -> None:
        super().__init__(config, log)
        self._timing = timing
        self._timed: list[int] = []  # not handed out yet; `pending` has the others
        self._waiting = False  # the first timing item is handed out, and not to be begun yet

    @property
    def tests_finished(self) -> bool:
        """Whether all items are handed out and none waits."""
        return super().tests_finished and not self._timed and not self._waiting

    @property
    def has_pending(self) -> bool:
        return super().has_pending or bool(self._timed)

    def schedule(self) -> None:
        """Begin, or give work to a worker that came later."""
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            self.collection = next(iter(self.node2collection.values()))
            for index, nodeid in enumerate(self.collection):
                (self._timed if self._timing(nodeid) else self.pending).append(index)
        for _ in range(_AHEAD):
            for node in self.nodes:
                self._give(node)
        self._advance()

    def check_schedule(self, node: WorkerController, duration: float = 0) -> None:  # noqa: ARG002
        """Hand out what is next, after `node` finished an item or went away."""
        self._give(node)
        self._advance()

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back what a worker had; what it was at is lost, and reported as a crash."""
        held = self.node2pending[node]
        assert self.collection is not None or not held
        lost, rest = held[:1], held[1:]
        del self.node2pending[node]
        for index in rest:
            timed = self.collection is not None and self._timing(self.collection[index])
            (self._timed if timed else self.pending).append(index)
        if self._waiting and not any(map(self._has_timed, self.nodes)):
            self._waiting = False
        for other in self.nodes:
            self.check_schedule(other)
        return self.collection[lost[0]] if lost and self.collection is not None else None

    def _advance(self) -> None:
        """Once no other item is left: let the workers end, and one of them measure when it is alone."""
        if self.pending:
            return
        open_nodes = [node for node in self.nodes if not node.shutting_down]
        if not open_nodes:
            return
        measuring = next((node for node in open_nodes if self._has_timed(node)), open_nodes[0])
        for node in open_nodes:
            if node is not measuring or not (self._timed or self._waiting):
                node.shutdown()
        if self._timed and not self._waiting and not self._has_timed(measuring):
            self._waiting = True
            self._hand(measuring, 1)
        # A worker that died is replaced: its items are in `pending` until the new one takes them.
        if self._waiting and not any(self.node2pending[node] for node in self.nodes if node is not measuring):
            self._waiting = False
            self._hand(measuring, len(self._timed))
            measuring.shutdown()

    def _give(self, node: WorkerController) -> None:
        """Hand one other item to a worker that can take it; whoever waits to measure would begin by it."""
        busy = node.shutting_down or self._has_timed(node) or len(self.node2pending[node]) >= _AHEAD
        if self.pending and not busy:
            self._send_tests(node, 1)

    def _hand(self, node: WorkerController, count: int) -> None:
        handed, self._timed = self._timed[:count], self._timed[count:]
        if handed:
            self.node2pending[node].extend(handed)
            node.send_runtest_some(handed)

    def _has_timed(self, node: WorkerController) -> bool:
        assert self.collection is not None
        return any(self._timing(self.collection[index]) for index in self.node2pending[node])
