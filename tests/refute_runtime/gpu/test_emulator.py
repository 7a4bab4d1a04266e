"""What the emulator would see of a kernel that is wrong."""

import os
import subprocess
import sys

import pytest
from cuda_emulator import ALIGNMENT, EmulatedBuffer

PAST = """
import ctypes
from cuda_emulator import EmulatedBuffer
buffer = EmulatedBuffer({nbytes})
print(ctypes.c_uint8.from_address(buffer.address + {offset}).value, flush=True)
"""


@pytest.mark.parametrize("nbytes", [16, 4096, 5008])
def test_reading_behind_a_buffer_ends_the_process(nbytes):
    def read(offset):
        code = PAST.format(nbytes=nbytes, offset=offset)
        paths = os.pathsep.join(sys.path)
        return subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            check=False,
        )

    assert read(nbytes - 1).stdout == b"255\n"
    assert read(nbytes).returncode < 0


def test_buffers_are_aligned_and_no_more_than_kernels_rely_on():
    found = [EmulatedBuffer(nbytes) for nbytes in (1, 15, 17, 4097)]
    assert all(buffer.address % ALIGNMENT == 0 for buffer in found)
    assert [buffer.bytes.size for buffer in found] == [1, 15, 17, 4097]
