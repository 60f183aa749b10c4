"""The process from its start to its end."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from undercroft.adapters.durablefiles import FolderFiles
from undercroft.adapters.prctl import end_with_parent
from undercroft.errors import InputError, OperationError, UndercroftError
from undercroft.guestservice.confine import give_up
from undercroft.guestservice.control import Control
from undercroft.guestservice.keep import Keep
from undercroft.guestservice.loop import READ
from undercroft.guestservice.orders import Orders
from undercroft.guestservice.service import Service
from undercroft.guestservice.tracing import Trace
from undercroft.guestservice.vaults import Vaults, chosen_tpm, kernel_random

FIRST_PASSED = 3
"""The descriptor of the first socket that is passed (sd_listen_fds(3))."""

SWITCH_S = 0.0005
"""How long the loop goes on at most once the committing thread may."""

_BACKLOG = 64
_LOCK_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How the service runs.

    Attributes:
        state: its folder.
        address: where its socket is made if none is passed.
        passed: descriptor of the listening socket, -1 for the one that systemd passes, if any.
        tpm: `auto`, `none`, a device's path or a TCTI.
        trace: a file for the events of a run, None for none.
        confined: it gives up what it has not to have (`confine`), and does not run where it cannot.
        child: it ends with who started it.
    """

    state: Path
    address: Path
    passed: int = -1
    tpm: str = "auto"
    trace: Path | None = None
    confined: bool = True
    child: bool = False


def run(settings: Settings, report: Callable[[str], None], environment: Mapping[str, str]) -> int:
    """Serve until SIGTERM or SIGINT; return 0 then, and 1 where the vaults' disk or TPM failed meanwhile.

    Args:
        settings: how.
        report: takes lines for the service's log.
        environment: with LISTEN_PID where systemd passes a socket.

    Raises:
        DeniedError: the folder cannot be opened, or the process cannot be confined.
        OperationError: another process holds it, or the socket cannot be made.
    """
    listener = listening(settings, environment)
    trace = Trace(settings.trace)
    if settings.confined:
        give_up(settings.state, chosen_tpm(settings.tpm))
    if settings.child:
        end_with_parent(signal.SIGTERM)
    files = _folder(settings.state)
    sys.setswitchinterval(SWITCH_S)
    vaults = Vaults(files, settings.tpm, clock=lambda: int(time.time()), random=kernel_random)
    vaults.open()
    service = Service(vaults, Keep(files), trace, report)
    orders = Orders(service)
    control = Control(listener, service.loop, orders.run, os.geteuid(), report)
    _stop_on_signal(service)
    service.serve()
    epoch = vaults.engine.history.epoch if vaults.engine is not None else 0
    report(vaults.problem or f"serving in epoch {epoch}; TPM: {vaults.tpm_name or 'none'}")
    service.loop.run()
    failed = ""
    try:
        service.stop()
    except UndercroftError as error:
        failed = str(error)
    failed = service.groups.failed or failed
    control.close()
    service.keep_file.close()
    files.release()
    if failed:
        report(f"{failed}: starts anew")
    return 1 if failed else 0


def listening(settings: Settings, environment: Mapping[str, str]) -> socket.socket:
    """Return the socket that was passed, else one that is made at its address for its owner alone.

    Raises:
        InputError: what was passed is no listening socket of packets.
        OperationError: the socket cannot be made.
    """
    by_systemd = environment.get("LISTEN_PID") == str(os.getpid())
    passed = FIRST_PASSED if settings.passed < 0 and by_systemd else settings.passed
    if passed >= 0:
        return _passed(passed)
    address = settings.address
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        address.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        address.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            listener.bind(str(address))
        finally:
            os.umask(old)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OperationError(f"{address}: {error.strerror or error}") from error
    return listener


def _passed(descriptor: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
        accepting = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise InputError(f"descriptor {descriptor} is no socket: {error.strerror}") from error
    if listener.type != socket.SOCK_SEQPACKET or not accepting:
        raise InputError("what was passed is not a listening socket of packets (SOCK_SEQPACKET)")
    listener.set_inheritable(False)
    return listener


def _folder(path: Path) -> FolderFiles:
    """Take the folder; one that was just let go may be held for a moment yet."""
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            return FolderFiles(path)
        except OperationError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _stop_on_signal(service: Service) -> None:
    """Let signals end the loop: through a pipe, so that one between two turns is not missed."""
    end, begin = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(begin)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.loop.stop())

    def heard(_mask: int) -> None:
        os.read(end, 64)

    service.loop.watch(end, READ, heard)
