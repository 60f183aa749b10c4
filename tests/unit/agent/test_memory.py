"""What was let go goes back to the host."""

import ctypes
import re
from pathlib import Path

import pytest

from undercroft.agent.memory import give_back

BLOCKS = 1000
BLOCK_BYTES = 64 << 10
"""Below what the C library asks the kernel for by itself, and gives back by itself."""


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) << 10


def test_memory_that_was_let_go_is_given_back() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        pytest.skip("needs glibc")
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    blocks = [library.malloc(BLOCK_BYTES) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    full = resident_bytes()
    last = blocks.pop()  # lies above the others
    for block in blocks:
        library.free(block)
    # Control: by itself the library keeps it.
    assert full - resident_bytes() < BLOCKS * BLOCK_BYTES // 4
    give_back()
    assert full - resident_bytes() > BLOCKS * BLOCK_BYTES // 2
    library.free(last)
