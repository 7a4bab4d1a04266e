"""A `Device` that runs the kernels' own sources on the host: compiled by g++, each thread a fiber.

What it computes is what the sources say; how fast, and what a GPU does with memory in another order, it
cannot tell. An emulated run is never called a run on a GPU.
"""

import ctypes
import mmap
import re
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from refute_runtime import backends

KERNELS = Path(backends.__file__).parent / "kernels"
HEADER = Path(__file__).with_name("cuda_emulator.h")
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fno-stack-protector", "-shared", "-fPIC", "-w")
PROCESSOR = ("-mfma", "-mf16c")
ALIGNMENT = 16  # bytes: what kernels rely on
_LIBC = ctypes.CDLL(None)
_NOBODY = 0  # PROT_NONE
UNSET = 0xFF  # of every byte that was not written: NaN as a float


def signatures(source):
    """Of each kernel of a source, its name and the C types of its arguments."""
    text, found = re.sub(r"//[^\n]*|\\\n", "", source), {}
    for macro, body in re.findall(r"#define (\w+)\(NAME, W\)([^\n]*)", text):
        text = text.replace(body, "")
        text += "".join(body.replace("NAME", name) for name in re.findall(rf"{macro}\((\w+), \d+\)", text))
    for name, arguments in re.findall(
        r"__global__ void __launch_bounds__\([\d, ]+\)\s+(\w+)\(([^)]*)\)", text
    ):
        found[name] = [re.sub(r"\s*\w+\s*$", "", one.strip()) for one in arguments.split(",")]
    return found


class EmulatedBuffer:
    """Memory that ends where a page begins that nobody may touch: a kernel that goes on ends the process."""

    def __init__(self, nbytes):
        whole = -(-max(nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, whole + mmap.PAGESIZE)
        everything = np.frombuffer(self._memory, np.uint8)
        everything[:whole] = UNSET
        base = everything.ctypes.data
        assert _LIBC.mprotect(ctypes.c_void_p(base + whole), mmap.PAGESIZE, _NOBODY) == 0
        start = (whole - nbytes) // ALIGNMENT * ALIGNMENT
        self.bytes = everything[start : start + nbytes]
        self.address = base + start
        self.nbytes = nbytes


class EmulatedGraph:
    def __init__(self, device, launches):
        self._device, self._launches = device, launches

    def launch(self):
        for launch in self._launches:
            self._device.launch(*launch)


class EmulatedDevice:
    """Everything is done when a call returns."""

    name = "emulated on the host"
    capability = (9, 0)
    memory = (1 << 34, 1 << 34)

    def __init__(self):
        self.details = {"emulator": "g++"}
        self._kernels, self._recorded = {}, None
        with tempfile.TemporaryDirectory() as folder:  # what is loaded stays when its file is gone
            self._build(Path(folder))

    def _build(self, folder):
        shared = "".join(path.read_text(encoding="utf-8") for path in sorted(KERNELS.glob("*.cuh")))
        running = []
        for source in sorted(KERNELS.glob("*.cu")):
            text, to = source.read_text(encoding="utf-8"), folder / source.stem
            parts = [f'#include "{HEADER}"', shared, text]
            for name, kinds in signatures(text).items():
                given = [
                    f"*(float*)&a[{i}]" if kind == "float" else f"({kind})a[{i}]"
                    for i, kind in enumerate(kinds)
                ]
                parts.append(f"static void call_{name}(long long* a) {{ {name}({', '.join(given)}); }}")
                parts.append(f'extern "C" void launch_{name}(long long* a, const long long* shape)')
                parts.append(f"{{ run(call_{name}, a, shape); }}")
            to.with_suffix(".cpp").write_text("\n".join(parts), encoding="utf-8")
            command = ["g++", *FLAGS, *PROCESSOR, f"{to}.cpp", "-o", f"{to}.so"]
            running.append((to, signatures(text), subprocess.Popen(command)))
        failed = [to.name for to, _, process in running if process.wait()]
        assert not failed, f"{failed} do not compile for the host"
        for to, known, _ in running:
            library = ctypes.CDLL(f"{to}.so")
            for name, kinds in known.items():
                self._kernels[name] = getattr(library, f"launch_{name}"), kinds

    def empty(self, nbytes):
        return EmulatedBuffer(nbytes)

    def mapped(self, nbytes):
        buffer = EmulatedBuffer(nbytes)
        return buffer, buffer.bytes

    def _not_recorded(self):
        assert self._recorded is None, "only launches are recorded: a GPU refuses anything else meanwhile"

    def upload(self, to, offset, data):
        self._not_recorded()
        to.bytes[offset : offset + data.nbytes] = data.reshape(-1).view(np.uint8)

    def download(self, source, offset, out):
        self._not_recorded()
        out.reshape(-1).view(np.uint8)[:] = source.bytes[offset : offset + out.nbytes]

    def copy(self, to, to_offset, source, offset, nbytes):
        self._not_recorded()
        to.bytes[to_offset : to_offset + nbytes] = source.bytes[offset : offset + nbytes]

    def fill(self, to, offset, nbytes, value=0):
        self._not_recorded()
        to.bytes[offset : offset + nbytes] = value

    def launch(self, kernel, grid, block, arguments, shared=0):
        assert shared == 0, "kernels have no dynamic shared memory"
        if self._recorded is not None:
            self._recorded.append((kernel, grid, block, tuple(arguments)))
            return
        call, kinds = self._kernels[kernel]
        given = np.zeros(len(kinds) + 1, np.int64)
        for i, (value, kind) in enumerate(zip(arguments, kinds, strict=True)):
            assert isinstance(value, np.float32) == (kind == "float"), f"{kernel}: argument {i} is {kind}"
            if kind == "float":
                given[i : i + 1].view(np.float32)[0] = value
            else:
                given[i] = value
        shape = np.array([*grid, *block], np.int64)
        call(ctypes.c_void_p(given.ctypes.data), ctypes.c_void_p(shape.ctypes.data))

    @contextmanager
    def capture(self):
        graphs, self._recorded = [], []
        try:
            yield graphs
            graphs.append(EmulatedGraph(self, self._recorded))
        finally:
            self._recorded = None

    def synchronize(self):
        self._not_recorded()
