"""Layer dispatch judges positive counters, so an engine that ran nothing cannot pass."""

import pytest

from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.dispatch import LayerDispatch
from refute.kinds.parameters import Lengths
from refute.targets.fake import FakeTarget

KIND = LayerDispatch(Lengths(max_tokens=3, prompt_tokens=(1, 8)))
CASE = {"prompt": [1, 2, 3], "chunks": [2], "cache": True, "max_tokens": 3}
GOOD = {
    "forwards": 4,
    "moe_layers": 16,
    "dense_layers": 0,
    "experts_run": 40,
    "guards_fired": 0,
    "cache_positions_read": 9,
}


def counted(**changes: int) -> Observation:
    file = {"moe_layers": 4, "dense_layers": 0}
    return Observation(CASE, {"counters": {**GOOD, **changes}, "tokens": 3, "file": file})


def test_the_layers_of_the_file_do_not_refute() -> None:
    assert not KIND.refutes(counted())


@pytest.mark.parametrize(
    "changes",
    [
        {"moe_layers": 15},
        {"moe_layers": 15, "dense_layers": 1},
        {"dense_layers": 1},
        {"experts_run": 0},
        {"guards_fired": 1},
        {"forwards": 2, "moe_layers": 8},
        {"forwards": 0, "moe_layers": 0, "experts_run": 0},
    ],
)
def test_any_other_count_refutes(changes: dict[str, int]) -> None:
    assert KIND.refutes(counted(**changes))


@pytest.mark.parametrize("cache", [True, False])
def test_an_honest_engine_is_not_refuted_and_a_dense_dispatch_is(cache: bool) -> None:
    target, case = FakeTarget(0), {**CASE, "cache": cache}
    honest = KIND.observe(target, case)
    assert KIND.informative(honest)
    assert not KIND.refutes(honest)
    with target.plant(Fault("dense-dispatch", 1)) as faulty:
        assert KIND.refutes(KIND.observe(faulty, case))
