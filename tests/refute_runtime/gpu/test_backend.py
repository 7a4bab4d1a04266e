"""The whole `cuda` backend on kernels that run on the host: the bits of `cpu`, whichever way tokens come."""

import numpy as np
import pytest
from tiny_gguf import write_tiny
from tiny_models import BLOCKS, DENSE, FLOATS, Wrapped, opened

from refute_runtime.backends.cpu import CpuBackend
from refute_runtime.backends.gpu.backend import DeviceBackend
from refute_runtime.backends.gpu.cache import DeviceCache
from refute_runtime.backends.gpu.weights import DeviceWeights, device_bytes
from refute_runtime.errors import ContextOverflow, FormatError, RequestError, RuntimeFailure
from refute_runtime.model import Model
from refute_runtime.weights import GgufFile

pytestmark = pytest.mark.usefixtures("cpu_kernels")

PROMPT = [3, 9, 1, 7, 5, 250, 0, 44, 44, 8, 2]


@pytest.fixture(scope="module", params=[BLOCKS, DENSE, FLOATS], ids=["blocks", "dense", "floats"])
def models(request, tmp_path_factory, device):
    file, config, weights = opened(request.param, tmp_path_factory.mktemp("m"))
    told = []
    uploaded = DeviceWeights(device, file, lambda *done: told.append(done))
    assert uploaded.nbytes == device_bytes(file)
    assert told[-1][0] == told[-1][1] == sum(info.nbytes for info in file.tensors.values())
    cuda = DeviceBackend(config, weights, uploaded, device)
    return Model(config, CpuBackend(config, weights, threads=1)), Model(config, cuda)


def logits_of(model, tokens, sizes, cache, **how):
    """Logits of every position, or of the last one of each chunk."""
    found, done = [], 0
    for size in sizes:
        forward = model.forward(tokens[done : done + size], cache, **how)
        found.append(forward)
        done += size
    assert done == len(tokens)
    return found


def same(found, expected):
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.counters == expected.counters
    for mine, other in zip(found.routing, expected.routing, strict=True):
        np.testing.assert_array_equal(mine.experts, other.experts)
        np.testing.assert_array_equal(mine.weights, other.weights)
        np.testing.assert_array_equal(mine.gap, other.gap)


@pytest.mark.parametrize("sizes", [(11,), (1,) * 11, (7, 4), (4, 1, 5, 1)], ids=str)
def test_any_chunks_give_the_bits_of_cpu(models, sizes):
    cpu, cuda = models
    caches = cpu.backend.new_cache(16), cuda.backend.new_cache(16)
    every = [
        logits_of(model, PROMPT, sizes, cache, last_only=False, routing=True)
        for model, cache in zip((cpu, cuda), caches, strict=True)
    ]
    for expected, found in zip(*every, strict=True):
        same(found, expected)
    for layer in range(cpu.config.layers):
        for mine, other in zip(caches[1].rows(layer), caches[0].rows(layer), strict=True):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("order", [-1, 1, 2])
def test_any_order_of_threads_and_blocks_gives_the_same_bits(models, device, monkeypatch, order):
    """A barrier that is missing would show."""
    cpu, cuda = models
    monkeypatch.setattr(device, "order", order)
    caches = cpu.backend.new_cache(16), cuda.backend.new_cache(16)
    for tokens in (PROMPT, [6]):
        expected, found = (
            model.forward(tokens, cache, last_only=False, routing=True)
            for model, cache in zip((cpu, cuda), caches, strict=True)
        )
        same(found, expected)


def test_only_the_last_position_is_asked_for(models):
    cpu, cuda = models
    found, expected = (
        model.forward(PROMPT, model.backend.new_cache(16), routing=True) for model in (cuda, cpu)
    )
    assert found.logits.shape == (1, cpu.config.vocabulary)
    same(found, expected)


def test_operations_one_by_one_give_the_same_bits(models):
    cpu, cuda = models
    by_operation = Model(cuda.config, Wrapped(cuda.backend))
    caches = [model.backend.new_cache(16) for model in (cpu, cuda)]
    for tokens in (PROMPT, [6], [7, 8]):
        expected = cpu.forward(tokens, caches[0], last_only=False, routing=True)
        same(by_operation.forward(tokens, caches[1], last_only=False, routing=True), expected)


def test_a_wrapped_cache_is_asked_for_its_rows(models):
    cpu, cuda = models
    inner = cuda.backend.new_cache(16)

    class Zeroed(Wrapped):
        def rows(self, layer):
            return tuple(0 * rows for rows in self.inner.rows(layer))

    cuda.forward(PROMPT, inner)
    lied = cuda.forward([6], Zeroed(inner)).logits
    honest = cpu.backend.new_cache(16)
    cpu.forward(PROMPT, honest)
    assert (lied != cpu.forward([6], honest).logits).any()


def test_more_rows_than_the_first_graph_serves(models):
    cpu, cuda = models
    caches = [model.backend.new_cache(530) for model in (cpu, cuda)]
    tokens = np.random.default_rng(0).integers(0, cpu.config.vocabulary, 510).tolist()
    for model, cache in zip((cpu, cuda), caches, strict=True):
        model.forward(tokens, cache)
    for token in (5, 6, 7, 8):  # from row 510 on: the last two of 512, and two beyond
        same(
            *(
                model.forward([token], cache, routing=True)
                for model, cache in zip((cuda, cpu), caches[::-1], strict=True)
            )
        )


def test_forks_and_truncated_caches_go_their_own_way(models):
    cuda = models[1]
    cache = cuda.backend.new_cache(16)
    cuda.forward(PROMPT, cache)
    other = cache.fork()
    first = cuda.forward([6], cache).logits
    np.testing.assert_array_equal(cuda.forward([6], other).logits, first)
    cuda.forward([9], other)
    cache.truncate(len(PROMPT))
    assert cache.length == len(PROMPT)
    np.testing.assert_array_equal(cuda.forward([6], cache).logits, first)


def test_a_full_cache_overflows(models):
    cuda = models[1]
    cache = cuda.backend.new_cache(len(PROMPT))
    cuda.forward(PROMPT, cache)
    for tokens in ([3], [3, 4]):
        with pytest.raises(ContextOverflow, match=r"holds 11 of 11 rows, so \d more do not fit"):
            cuda.forward(tokens, cache)
    assert cache.length == len(PROMPT)


def test_a_token_that_there_is_not_is_refused(models):
    with pytest.raises(RequestError, match="not in the vocabulary"):
        models[1].forward([models[1].config.vocabulary], models[1].backend.new_cache(4))


def test_what_no_number_is_fires_the_guard(models):
    cuda = models[1]
    cache = cuda.backend.new_cache(8)
    cuda.forward(PROMPT[:2], cache)
    nan = np.full((1, *cache.rows(0)[0].shape[1:]), np.nan, np.float32)
    cache.truncate(1)
    for layer in range(cuda.config.layers):
        cache.append(layer, nan, nan)
    cache.advance(1)
    assert cuda.forward([3], cache).counters.guards_fired == 1


def test_a_cache_without_room_is_refused_with_the_arithmetic(models, device, monkeypatch):
    monkeypatch.setattr(type(device), "memory", (1 << 20, 1 << 34))
    row = models[1].backend.cache_row_bytes
    with pytest.raises(RuntimeFailure, match=rf"at most {(1 << 20) // row} positions fit; shorten"):
        models[1].backend.new_cache(10**6)


def test_a_file_that_ends_early_is_named(tmp_path, device):
    path = write_tiny(tmp_path / "m.gguf", FLOATS)
    file = GgufFile.open(path)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 64)
    with pytest.raises(FormatError, match=r"the file ends at byte \d+, inside the tensor \S+; expected"):
        DeviceWeights(device, file)


def test_a_cache_counts_its_bytes(models):
    backend = models[1].backend
    cache = backend.new_cache(40)
    assert isinstance(cache, DeviceCache)
    assert cache.nbytes == 40 * backend.cache_row_bytes
    weights, work = backend.memory(16, 40)
    assert weights > 0
    assert work > 4 * models[1].config.vocabulary
