"""The guest service as the agent's child, where no socket unit of systemd's gives one.

The agent makes the listening socket and keeps it, so that orders wait while the child starts anew. The child
gives up root itself, before it hears of any guest (`guestservice.confine`), and ends with the agent, however
that ends. Where somebody listens already, as a unit of systemd's, that is left alone and watched.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path

from undercroft.errors import OperationError
from undercroft.usecases.fleet.places import GUEST_SOCKET_VARIABLE, GUEST_STATE_VARIABLE, Places

PROGRAM = ("-I", "-c", "from undercroft.cli import main; main()", "guest-service", "--child")
LOOK_EVERY_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LIVED_S = 60.0
"""Who lived that long begins with the shortest pause again."""

STOP_S = 30.0
_BACKLOG = 64
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")


class GuestChild:
    """Keeps a guest service running."""

    def __init__(self, places: Places, report: Callable[[str], None], *options: str) -> None:
        """Take where it listens and lives, who takes lines for the log, and options of the command."""
        self._places, self._report, self._options = places, report, options
        self._listener: socket.socket | None = None
        self._process: Process | None = None

    async def run(self) -> None:
        """Run for ever; the child is ended with it."""
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                if self._listener is None and answers(self._places.guest_socket):
                    await asyncio.sleep(LOOK_EVERY_S)
                    continue
                began = time.monotonic()
                reason = await self._once()
                pause_s = FIRST_PAUSE_S if time.monotonic() - began > LIVED_S else pause_s
                self._report(f"the guest service {reason}; it is started again in {pause_s:.0f} s")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            await self._stop()

    @property
    def pid(self) -> int:
        """The child's number, 0 while none runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    async def _once(self) -> str:
        """Run one child to its end; return how it ended."""
        try:
            if self._listener is None:
                self._listener = listening(self._places.guest_socket)
            passed = self._listener.fileno()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *PROGRAM,
                "--socket-fd",
                str(passed),
                *self._options,
                env=_environment(self._places),
                pass_fds=(passed,),
                stdin=asyncio.subprocess.DEVNULL,
            )
        except (OSError, OperationError) as error:
            return f"cannot be started: {error}"
        code = await self._process.wait()
        return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"

    async def _stop(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(OSError):
                self._places.guest_socket.unlink()


def answers(address: Path) -> bool:
    """Tell whether somebody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(str(address)) == 0


def listening(address: Path) -> socket.socket:
    """Return a listening socket for root alone, in the place of one that nobody answers at.

    Raises OperationError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        address.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        address.unlink(missing_ok=True)
        listener.bind(str(address))
        address.chmod(0o600)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OperationError(f"{address}: {error.strerror or error}") from error
    return listener


def _environment(places: Places) -> dict[str, str]:
    """Return what the child is told: its places, and nothing that the agent was told."""
    told = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return told | {
        GUEST_STATE_VARIABLE: str(places.guest_state),
        GUEST_SOCKET_VARIABLE: str(places.guest_socket),
    }
