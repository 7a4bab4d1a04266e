"""A `Device` that runs the kernels' own sources on the host: compiled by g++, each thread a fiber.

What it computes is what the sources say; how fast, and what a GPU does with memory in another order, it
cannot tell. An emulated run is never called a run on a GPU.
"""

import ctypes
import mmap
import re
import subprocess
import tempfile
import weakref
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from refute_runtime.backends.gpu import nvrtc
from refute_runtime.errors import RuntimeFailure

KERNELS = nvrtc.KERNELS
HEADER = Path(__file__).with_name("cuda_emulator.h")
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fno-stack-protector", "-shared", "-fPIC", "-w")
CHECKS = "bounds,alignment,signed-integer-overflow,shift-exponent,float-cast-overflow,integer-divide-by-zero"
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
    """Memory at the end of its pages, between two that nobody may touch: a kernel that goes on is stopped."""

    def __init__(self, nbytes):
        page = mmap.PAGESIZE
        whole = -(-max(nbytes, 1) // page) * page
        self._memory = mmap.mmap(-1, whole + 2 * page)
        everything = np.frombuffer(self._memory, np.uint8)
        pages = everything[page : page + whole]
        pages[:] = UNSET
        for edge in (everything, everything[page + whole :]):
            assert _LIBC.mprotect(ctypes.c_void_p(edge.ctypes.data), page, _NOBODY) == 0
        start = (whole - nbytes) // ALIGNMENT * ALIGNMENT
        self.bytes = pages[start : start + nbytes]
        self.address = pages.ctypes.data + start
        self._around = pages[:start], pages[start + nbytes :]
        self.nbytes = nbytes

    def check(self):
        """Raise `RuntimeFailure` where something was written beside the buffer, on its pages."""
        for around, where in zip(self._around, ("before", "behind"), strict=True):
            if (around != UNSET).any():
                around[:] = UNSET
                raise RuntimeFailure(f"a kernel wrote {where} a buffer of {self.nbytes} bytes")


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

    def __init__(self, sources=None):
        """sources: CUDA C by name, instead of the bundled kernels."""
        self.details = {"emulator": "g++"}
        self.order = 0  # of threads and blocks: 0 first ones first, -1 last ones, else the seed of a draw
        self._kernels, self._recorded, self._buffers = {}, None, weakref.WeakSet()
        with tempfile.TemporaryDirectory() as folder:  # what is loaded stays when its file is gone
            self._build(Path(folder), sources or {name: nvrtc.text(name) for name in nvrtc.names()})

    def _build(self, folder, sources):
        running = []
        for source, text in sources.items():
            to, known = folder / source, signatures(text)
            parts = [f'#include "{HEADER}"', text]
            for name, kinds in known.items():
                given = [
                    f"*(float*)&a[{i}]" if kind == "float" else f"({kind})a[{i}]"
                    for i, kind in enumerate(kinds)
                ]
                parts.append(f"static void call_{name}(long long* a) {{ {name}({', '.join(given)}); }}")
                told = "long long* a, const long long* shape, long long order"
                parts.append(f'extern "C" const char* launch_{name}({told})')
                parts.append(f"{{ return run(call_{name}, a, shape, order); }}")
            to.with_suffix(".cpp").write_text("\n".join(parts), encoding="utf-8")
            checks = (f"-fsanitize={CHECKS}", "-fno-sanitize-recover=all")
            command = ["g++", *FLAGS, *PROCESSOR, *checks, "-c", f"{to}.cpp", "-o", f"{to}.o"]
            link = [
                "g++",
                "-shared",
                f"{to}.o",
                "-o",
                f"{to}.so",
            ]  # without the checks' library: ours answers
            running.append((to, known, link, subprocess.Popen(command)))
        failed = [to.name for to, _, _, process in running if process.wait()]
        assert not failed, f"{failed} do not compile for the host"
        for to, known, link, _ in running:
            subprocess.run(link, check=True)
            library = ctypes.CDLL(f"{to}.so")
            for name, kinds in known.items():
                call = getattr(library, f"launch_{name}")
                call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_longlong]
                call.restype = ctypes.c_char_p
                self._kernels[name] = call, kinds

    def empty(self, nbytes):
        buffer = EmulatedBuffer(nbytes)
        self._buffers.add(buffer)
        return buffer

    def mapped(self, nbytes):
        buffer = self.empty(nbytes)
        return buffer, buffer.bytes

    def _not_recorded(self):
        assert self._recorded is None, "only launches are recorded: a GPU refuses anything else meanwhile"

    def upload(self, to, offset, data):
        self._not_recorded()
        to.bytes[offset : offset + data.nbytes] = data.reshape(-1).view(np.uint8)

    def download(self, source, offset, out):
        self.synchronize()
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
        wrong = call(given.ctypes.data, shape.ctypes.data, self.order)
        if wrong:
            raise RuntimeFailure(f"{kernel}, emulated: {wrong.decode()}")

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
        for buffer in list(self._buffers):
            buffer.check()
