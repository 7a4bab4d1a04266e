"""A stand-in for CuPy whose device memory is the host's: what `CupyDevice` asks of it, and no kernel runs."""

import ctypes
from types import SimpleNamespace

import numpy as np


class CUDARuntimeError(Exception):
    pass


class CUDADriverError(Exception):
    pass


class OutOfMemoryError(Exception):
    pass


class Memory:
    def __init__(self, nbytes):
        self.held = np.full(nbytes, 0xFF, np.uint8)
        self.ptr = self.held.ctypes.data


class Pinned(Memory):
    def __buffer__(self, _flags):
        return memoryview(self.held)

    @property
    def __array_interface__(self):
        return self.held.__array_interface__


class Stream:
    ptr = 77

    def __init__(self, *, non_blocking):
        assert non_blocking
        self.capturing = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def begin_capture(self):
        self.capturing = True

    def end_capture(self):
        assert self.capturing
        self.capturing = False
        return SimpleNamespace(launch=lambda stream: LAUNCHED.append(("graph", stream)))

    def synchronize(self):
        if FAULTS:
            raise CUDARuntimeError(FAULTS.pop())


LAUNCHED, FAULTS = [], []


class Function:
    def __init__(self, name):
        self.name = name

    def __call__(self, grid, block, arguments, shared, stream):
        LAUNCHED.append((self.name, grid, block, arguments, shared, stream))


class Module:
    def load(self, code):
        assert code.startswith(b"\x7fELF")

    def get_function(self, name):
        return Function(name)


def make(capability="90", room=1 << 30):
    """A module `cupy` of one GPU."""

    def alloc(nbytes):
        if nbytes > room:
            raise OutOfMemoryError
        return Memory(nbytes)

    def memcpy(to, source, nbytes, kind, stream):
        assert kind in (1, 2, 3)
        assert stream == Stream.ptr
        ctypes.memmove(to, source, nbytes)

    def memset(to, value, nbytes, stream):
        assert stream == Stream.ptr
        ctypes.memset(to, value, nbytes)

    runtime = SimpleNamespace(
        getDeviceCount=lambda: 1,
        driverGetVersion=lambda: 13000,
        getDeviceProperties=lambda number: {"name": b"Fake GPU %d" % number},
        memGetInfo=lambda: (room, 2 * room),
        memcpyAsync=memcpy,
        memsetAsync=memset,
        memcpyHostToDevice=1,
        memcpyDeviceToHost=2,
        memcpyDeviceToDevice=3,
        CUDARuntimeError=CUDARuntimeError,
    )
    event = lambda disable_timing: SimpleNamespace(record=lambda _: None, synchronize=lambda: None)  # noqa: E731
    cuda = SimpleNamespace(
        Device=lambda: SimpleNamespace(id=0, compute_capability=capability),
        Stream=Stream,
        Event=event,
        alloc=alloc,
        alloc_pinned_memory=lambda nbytes: np.full(nbytes, 0xFF, np.uint8).view(PinnedArray),
        runtime=runtime,
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        function=SimpleNamespace(Module=Module),
    )
    return SimpleNamespace(
        cuda=cuda,
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 5),
        __name__="cupy",
        __version__="14.2.0",
    )


class PinnedArray(np.ndarray):
    """Pinned memory: a buffer that has an address."""

    @property
    def ptr(self):
        return self.ctypes.data
