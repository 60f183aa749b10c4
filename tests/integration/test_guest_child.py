"""The guest service as `undercroft up` starts it where systemd does not."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.guesthost import GENEROUS_S

from undercroft.adapters.guestservice import GuestService
from undercroft.agent import guestchild
from undercroft.agent.guestchild import GuestChild
from undercroft.errors import OperationError
from undercroft.guestservice.confine import own_user
from undercroft.usecases.fleet.places import Places

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts another user's process")


def played(tmp_path: Path, play: Callable[[GuestChild, list[str]], Awaitable[None]]) -> Places:
    """Run a child while a play goes on; return where it was."""
    variables = {
        "UNDERCROFT_GUEST_STATE": str(tmp_path / "state"),
        "UNDERCROFT_GUEST_SOCKET": str(tmp_path / "run" / "guest.sock"),
    }
    places, said = Places.default(variables), []

    async def run() -> None:
        child = GuestChild(places, said.append, "--tpm", "none")
        task = asyncio.create_task(child.run())
        try:
            await asyncio.wait_for(play(child, said), GENEROUS_S)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return places


async def status(child: GuestChild, path: Path) -> dict[str, object]:
    def ask() -> dict[str, object]:
        with GuestService.connect(path, GENEROUS_S) as client:
            return client.status()

    while not path.exists():
        await asyncio.sleep(0.01)
    return await asyncio.to_thread(ask)


def test_it_is_started_confined_started_again_when_it_dies_and_ended_with_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guestchild, "FIRST_PAUSE_S", 0.01)
    path, pids = tmp_path / "run" / "guest.sock", []

    async def play(child: GuestChild, said: list[str]) -> None:
        first = await status(child, path)
        pids.append(child.pid)
        assert f"Uid:\t{own_user()[0]}\t" in _status(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        second = await status(child, path)  # waits in the socket's queue meanwhile
        pids.append(child.pid)
        assert (second["state"], int(str(second["epoch"]))) == ("serving", int(str(first["epoch"])) + 1)
        assert any("killed by signal 9" in line for line in said)

    places = played(tmp_path, play)
    assert pids[0] != pids[1]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not path.exists()
    with pytest.raises(OperationError, match=r"systemctl start undercroft-guest\.socket"):
        GuestService.connect(places.guest_socket)


def test_one_that_systemd_gives_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as unit:
        unit.bind(str(tmp_path / "run" / "guest.sock"))
        unit.listen()

        async def play(child: GuestChild, said: list[str]) -> None:
            await asyncio.sleep(0.2)
            assert child.pid == 0

        played(tmp_path, play)
    assert not (tmp_path / "state").exists()
    assert (tmp_path / "run" / "guest.sock").exists()


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def test_it_ends_with_an_agent_that_was_killed(tmp_path: Path) -> None:
    script = """
import asyncio
from undercroft.agent.guestchild import GuestChild
from undercroft.usecases.fleet.places import Places
child = GuestChild(Places.default(), print, "--tpm", "none")
async def run():
    task = asyncio.create_task(child.run())
    while not child.pid:
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await task
asyncio.run(run())
"""
    places = {
        "UNDERCROFT_GUEST_STATE": str(tmp_path / "state"),
        "UNDERCROFT_GUEST_SOCKET": str(tmp_path / "guest.sock"),
    }
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env={**os.environ, **places}, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout
        pid = int(agent.stdout.readline())
        with GuestService.connect(tmp_path / "guest.sock", GENEROUS_S) as client:
            client.status()
        agent.kill()
    end = time.monotonic() + GENEROUS_S
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in _status(pid):
        assert time.monotonic() < end
        time.sleep(0.01)
