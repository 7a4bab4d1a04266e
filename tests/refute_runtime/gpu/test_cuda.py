"""What `cuda.py` asks of CuPy, with a stand-in for it; what is computed, the emulator computes."""

import os
import sys

import cuda_emulator
import fake_cupy
import numpy as np
import pytest
from tiny_gguf import TinyModel, write_tiny

from refute_runtime.backends import choice, cuda
from refute_runtime.backends.choice import COMPILING, READING
from refute_runtime.backends.gpu import decoder, nvrtc
from refute_runtime.backends.gpu.cache import DeviceCache
from refute_runtime.config import ModelConfig
from refute_runtime.engine import Engine
from refute_runtime.errors import RuntimeFailure, UnsupportedError
from refute_runtime.gguf_reader import GgufFile
from refute_runtime.sampling import SamplingParams
from refute_runtime.serving.answer import steps
from refute_runtime.serving.jobs import Job

COMPILED = {"rows": nvrtc.Compiled("rows", b"\x7fELF", (nvrtc.Usage("add", 10, 0, 0, 0),))}


GRAPH = cuda.CupyGraph if os.environ.get("REFUTE_TEST_DEVICE") == "gpu" else cuda_emulator.EmulatedGraph


@pytest.fixture
def cupy(monkeypatch):
    """One GPU that computes nothing."""
    found = fake_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", found)
    monkeypatch.setattr(nvrtc, "cubins", lambda *_, **__: COMPILED)
    monkeypatch.setattr(fake_cupy, "LAUNCHED", [])
    monkeypatch.setattr(fake_cupy, "FAULTS", [])
    return found


def test_the_device_is_described(cupy):
    device = cuda.CupyDevice()
    assert (device.name, device.capability, device.driver) == ("Fake GPU 0", (9, 0), "13000")
    assert device.memory == ((1 << 30) + 5, 2 << 30)
    assert device.details == {
        "driver": "13000",
        "nvrtc": ".".join(map(str, nvrtc.version())),
        "cupy": "14.2.0",
    }


@pytest.mark.parametrize("nbytes", [1, 1 << 10, (64 << 10) + 1, 3 * (16 << 20) + 5, 6 * (16 << 20)])
def test_what_is_uploaded_comes_back(cupy, nbytes):
    device = cuda.CupyDevice()
    data = np.random.default_rng(0).integers(0, 256, nbytes, np.uint8)
    buffer, other = device.empty(nbytes + 8), device.empty(nbytes + 8)
    device.upload(buffer, 8, data)
    device.copy(other, 0, buffer, 8, nbytes)
    device.fill(other, 0, 1, 7)
    out = np.empty(nbytes, np.uint8)
    device.download(other, 0, out)
    assert out[0] == 7
    np.testing.assert_array_equal(out[1:], data[1:])


def test_arguments_are_what_kernels_take(cupy):
    device = cuda.CupyDevice()
    device.launch("add", (2, 1, 1), (256, 1, 1), (1 << 40, np.float32(0.5), 3))
    ((name, grid, block, given, shared, _),) = fake_cupy.LAUNCHED
    assert (name, grid, block, shared) == ("add", (2, 1, 1), (256, 1, 1), 0)
    assert [(type(each), each) for each in given] == [
        (np.int64, 1 << 40), (np.float32, np.float32(0.5)), (np.int64, 3),
    ]  # fmt: skip


def test_a_recorded_graph_is_launched_on_its_stream(cupy):
    device = cuda.CupyDevice()
    with device.capture() as graphs:
        device.launch("add", (1, 1, 1), (1, 1, 1), ())
    graphs[0].launch()
    assert fake_cupy.LAUNCHED[-1][0] == "graph"


def test_mapped_memory_is_seen_by_both(cupy):
    buffer, data = cuda.CupyDevice().mapped(64)
    assert buffer.address == data.ctypes.data
    assert not data.any()


def test_no_room_and_failures_are_sentences(cupy):
    device = cuda.CupyDevice()
    with pytest.raises(RuntimeFailure, match=r"no room for 2,147,483,648 bytes: 1,073,741,829 of"):
        device.empty(2 << 30)
    fake_cupy.FAULTS.append("cudaErrorIllegalAddress: an illegal memory access was encountered")
    with pytest.raises(
        RuntimeFailure, match=r"on the GPU computing failed: cudaErrorIllegalAddress.*refute doctor"
    ):
        device.synchronize()


def test_an_old_gpu_is_named(monkeypatch, cupy):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy.make("75"))
    with pytest.raises(UnsupportedError, match=r"has compute capability 7\.5, expected 8\.0 or higher"):
        cuda.CupyDevice()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("cuda") / "m.gguf", TinyModel(context=128))


def test_without_cupy_the_extras_are_named(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        UnsupportedError, match=r"needs CuPy and a GPU that answers .*install refute\[cuda13\], or"
    ):
        Engine.load(path, "cuda")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"device": "cpu"}, "computes on a GPU, expected device 'gpu'"),
        ({"mmap": True}, "uploads the weights"),
    ],
)
def test_what_contradicts_a_gpu_is_refused(cupy, path, how, message):
    with pytest.raises(UnsupportedError, match=message):
        Engine.load(path, "cuda", **how)


def opened(path, monkeypatch, cupy):
    """What `auto` takes on a host whose GPU answers."""
    monkeypatch.setattr(choice, "namespace", lambda _: cupy)
    monkeypatch.setattr(choice, "ArrayBackend", lambda *_: "array")
    with GgufFile.open(path) as file:
        config = ModelConfig.from_metadata(file.metadata, file.tensors)
        return choice.open_backend("auto", "auto", file, config)


def test_auto_says_why_the_gpu_is_left_to_array(cupy, path, monkeypatch):
    monkeypatch.setattr(cuda, "too_old", lambda _: "it is too old")
    found = opened(path, monkeypatch, cupy)
    assert (found.backend, found.notes) == ("array", ("computing on the backend array: it is too old",))


@pytest.mark.usefixtures("on_emulator")
def test_auto_takes_the_gpu_where_it_can(cupy, path, monkeypatch):
    assert opened(path, monkeypatch, cupy).backend.name == "cuda"


@pytest.fixture
def on_emulator(monkeypatch, cupy, device):
    monkeypatch.setattr(cuda, "CupyDevice", lambda told: (told and told(0, 1)) or device)


@pytest.mark.usefixtures("on_emulator", "cpu_kernels")
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_an_engine_generates_what_cpu_does(path, device, temperature):
    told, params = [], SamplingParams(temperature=temperature, seed=3)
    with (
        Engine.load(path, "cuda", progress=lambda *each: told.append(each)) as gpu,
        Engine.load(path, "cpu") as host,
    ):
        assert isinstance(gpu.new_cache(4), DeviceCache)
        assert gpu.settings["backend"] == "cuda"
        assert gpu.settings["architecture"] == "sm_{}{}".format(*device.capability)
        assert gpu.settings["weights"] == "on the device"
        assert device.details.items() <= gpu.settings.items()
        found, expected = (
            list(engine.generate([1, 2, 3], params, max_tokens=9, stop=False, routing=True))
            for engine in (gpu, host)
        )
        for mine, other in zip(found, expected, strict=True):
            assert (mine.id, mine.margin, mine.counters, mine.routing) == (
                other.id, other.margin, other.counters, other.routing,
            )  # fmt: skip
    assert {each[0] for each in told} == {COMPILING, READING}


@pytest.mark.usefixtures("on_emulator")
def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic(path, device, monkeypatch):
    monkeypatch.setattr(type(device), "memory", (100_000, 1 << 20))
    with pytest.raises(
        RuntimeFailure, match=r"needs 0\.0. GiB \(0\.00 GiB of weights, .* no context would fit: use a"
    ):
        Engine.load(path, "cuda")


@pytest.fixture
def engines(path, on_emulator, cpu_kernels):
    with Engine.load(path, "cuda") as gpu, Engine.load(path, "cpu") as host:
        yield gpu, host


class Launches:
    """Counts the graphs that are launched."""

    def __init__(self, monkeypatch):
        self.count = 0
        honest = GRAPH.launch

        def launch(graph):
            self.count += 1
            honest(graph)

        monkeypatch.setattr(GRAPH, "launch", launch)


def told(tokens):
    return [(each.id, each.margin, each.counters, each.text, each.finish) for each in tokens]


def test_the_device_goes_on_by_itself_and_chooses_the_same(engines, monkeypatch):
    gpu, host = engines
    launches = Launches(monkeypatch)
    monkeypatch.setattr(type(gpu.backend), "whole", refuse_one(type(gpu.backend).whole))
    found, expected = (list(engine.generate([1, 2, 3], max_tokens=12, stop=False)) for engine in (gpu, host))
    assert told(found) == told(expected)
    assert launches.count == 11


def refuse_one(honest):
    """A whole forward of one token would be a step that the host asks for."""

    def whole(backend, tokens, *rest):
        assert len(tokens) > 1
        return honest(backend, tokens, *rest)

    return whole


def test_answers_of_the_server_are_chosen_there_too(engines, monkeypatch):
    gpu, host = engines
    job = Job((1, 2, 3), 8, SamplingParams())
    expected = [(step.id, step.text, step.counters) for step in steps(host, job)]
    monkeypatch.setattr(type(gpu.backend), "whole", refuse_one(type(gpu.backend).whole))
    assert [(step.id, step.text, step.counters) for step in steps(gpu, job)] == expected


def test_answers_with_logprobs_are_looked_at(engines):
    job = Job((1, 2, 3), 4, SamplingParams(), top_logprobs=2)
    found, expected = (
        [(step.id, step.chosen, step.likeliest) for step in steps(each, job)] for each in engines
    )
    assert found == expected
    assert all(chosen is not None for _, chosen, _ in found)


def test_a_stop_wastes_two_tokens_at_most(engines, monkeypatch):
    gpu, _ = engines
    launches = Launches(monkeypatch)
    cache = gpu.new_cache(64)
    tokens = gpu.generate([1, 2, 3], max_tokens=50, stop=False, cache=cache)
    for _ in range(5):
        next(tokens)
    tokens.close()
    assert launches.count == 4 + 2
    assert cache.length == 3 + 4


def test_sequences_in_turn_do_not_mix(engines):
    gpu, host = engines
    prompts = [1, 2, 3], [9, 8], [5, 5, 5, 5]
    expected = [told(host.generate(prompt, max_tokens=7, stop=False)) for prompt in prompts]
    under_way = [gpu.generate(prompt, max_tokens=7, stop=False) for prompt in prompts]
    found = [[] for _ in prompts]
    for _ in range(7):
        for tokens, kept in zip(under_way, found, strict=True):
            kept.append(next(tokens))
    assert [told(each) for each in found] == expected


def test_sequences_in_turn_waste_nothing(engines, monkeypatch):
    gpu, _ = engines
    launches = Launches(monkeypatch)
    under_way = [gpu.generate(prompt, max_tokens=7, stop=False) for prompt in ([1, 2, 3], [9, 8])]
    for _ in range(4):
        for tokens in under_way:
            next(tokens)
    assert launches.count == 2 * 3


def test_a_larger_cache_after_a_small_one_gets_its_room_before_it_needs_it(path, engines, monkeypatch):
    monkeypatch.setattr(decoder, "_FEWEST", 1)  # a graph serves 64 rows
    gpu, host = engines
    list(gpu.generate([4, 5], max_tokens=3, stop=False))
    prompt = [1 + i % 50 for i in range(60)]
    launches = Launches(monkeypatch)
    found, expected = (list(engine.generate(prompt, max_tokens=9, stop=False)) for engine in (gpu, host))
    assert told(found) == told(expected)
    assert launches.count == 8  # one that began in room without a state would be one more


def test_a_cache_that_was_cut_between_is_gone_on_with(engines):
    every = []
    for engine in engines:
        cache = engine.new_cache(64)
        tokens = engine.generate([1, 2, 3], max_tokens=9, stop=False, cache=cache)
        found = [next(tokens) for _ in range(5)]
        cache.truncate(4)
        every.append(told([*found, *tokens]))
    assert every[0] == every[1]


def test_penalties_and_looks_between_are_asked_step_by_step(engines):
    gpu, host = engines
    params = SamplingParams(repetition_penalty=1.3)
    for how in ({"params": params}, {"routing": True}, {"twin": True}):
        found, expected = (
            list(engine.generate([1, 2, 3], max_tokens=6, stop=False, **how)) for engine in (gpu, host)
        )
        assert told(found) == told(expected)


def test_the_last_position_of_a_cache_is_not_passed(engines, monkeypatch):
    gpu, _ = engines
    launches = Launches(monkeypatch)
    assert len(list(gpu.generate([1, 2, 3], max_tokens=4, stop=False, cache=gpu.new_cache(7)))) == 4
    assert launches.count == 3


def test_a_device_that_says_nothing_is_a_failure(engines, monkeypatch):
    gpu, _ = engines
    monkeypatch.setattr(decoder, "_PATIENCE", 0.0)
    monkeypatch.setattr(GRAPH, "launch", lambda _: None)
    tokens = gpu.generate([1, 2, 3], max_tokens=4, stop=False)
    next(tokens)
    with pytest.raises(RuntimeFailure, match="did not say which"):
        next(tokens)
