"""libvirt's own event loop in a thread of its own, once for the process.

libvirt takes one loop for a process and never another, and binds each connection to it when the connection
is opened. A thread outlives every asyncio loop, so one of those may be closed and another begun; whoever
listens hands events over to its own loop. Without a loop no keepalive is answered either.
"""

import threading
import time

from undercroft.adapters.libvirt.bindings import Libvirt

FAILURE_PAUSE_S = 0.1

_lock = threading.Lock()
_threads: list[threading.Thread] = []


def ensure_running(libvirt: Libvirt) -> None:
    """Start the thread; call it before the first connection that is to have events or keepalives."""
    with _lock:
        if _threads:
            return
        libvirt.virEventRegisterDefaultImpl()
        thread = threading.Thread(target=_run, args=(libvirt,), name="libvirt events", daemon=True)
        thread.start()
        _threads.append(thread)


def _run(libvirt: Libvirt) -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:  # out of memory or descriptors: this thread must outlive it
            time.sleep(FAILURE_PAUSE_S)
