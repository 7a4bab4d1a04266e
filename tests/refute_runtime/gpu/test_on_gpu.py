"""On a GPU, where one answers: else skipped, and nothing here is shown."""

import numpy as np
import pytest

import refute_runtime
from refute_runtime.backends import cuda
from refute_runtime.backends.cuda import CupyDevice
from refute_runtime.backends.gpu import launches
from refute_runtime.engine import Engine

FOUND = cuda.found()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(FOUND.capability is None, reason=f"no GPU: {FOUND.why}"),
]
POCKET = f"{refute_runtime.__path__[0]}/pocket/pocket.gguf"


@pytest.fixture(scope="module")
def gpu():
    return CupyDevice()


@pytest.mark.parametrize("nbytes", [1, 1 << 16, (40 << 20) + 3])
def test_memory_goes_there_and_back(gpu, nbytes):
    data, out = np.random.default_rng(0).integers(0, 256, nbytes, np.uint8), np.empty(nbytes, np.uint8)
    buffer, other = gpu.empty(nbytes), gpu.empty(nbytes)
    gpu.upload(buffer, 0, data)
    gpu.copy(other, 0, buffer, 0, nbytes)
    gpu.download(other, 0, out)
    np.testing.assert_array_equal(out, data)


def test_launches_and_graphs_compute(gpu):
    ones, buffer = np.ones(1000, np.float32), gpu.empty(4000)
    gpu.upload(buffer, 0, ones)
    launches.add(gpu, buffer.address, buffer.address, 1000, buffer.address)
    with gpu.capture() as graphs:
        launches.add(gpu, buffer.address, buffer.address, 1000, buffer.address)
    graphs[0].launch()
    graphs[0].launch()
    out = np.empty_like(ones)
    gpu.download(buffer, 0, out)
    np.testing.assert_array_equal(out, 8 * ones)


@pytest.mark.parametrize("chunks", [(), (1,), (7,), (64,)], ids=str)
def test_the_embedded_model_gives_the_bits_of_cpu(chunks):
    with Engine.load(POCKET, "cuda") as device, Engine.load(POCKET, "cpu") as host:
        prompt = host.tokenizer.encode("the stone is " * 40)
        found, expected = (
            [
                (each.id, each.margin)
                for each in engine.generate(prompt, max_tokens=40, stop=False, chunks=given)
            ]
            for engine, given in ((device, chunks), (host, ()))
        )
        assert found == expected
