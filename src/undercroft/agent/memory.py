"""Memory that a round or a proof took and let go, given back to the host.

The C library keeps what was freed for the next time, which for the agent is minutes away: some 10 MB after
all machines were judged, as much again after a proof. Python's own small objects lie apart from that.
"""

import ctypes


def give_back() -> None:
    """Give free memory back; takes milliseconds. Does nothing where the C library knows no such call."""
    trim = getattr(_LIBC, "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(ctypes.c_size_t(0))


_LIBC = ctypes.CDLL(None)
