"""The bar appears after its patience, on a terminal only, and leaves nothing behind."""

import io
import os
import pty
import subprocess
import sys
import time

import pytest

from undercroft.cli.render.progress import Progress


@pytest.fixture
def screen():
    leader, follower = pty.openpty()
    os.set_blocking(leader, False)
    with open(follower, "w", encoding="utf-8") as stream:
        yield stream, leader
    os.close(leader)


def written(leader: int) -> str:
    try:
        return os.read(leader, 1 << 16).decode()
    except BlockingIOError:
        return ""


def wait_for(leader: int, text: str) -> str:
    seen = ""
    deadline_s = time.monotonic() + 20
    while text not in seen and time.monotonic() < deadline_s:
        seen += written(leader)
        time.sleep(0.01)
    return seen


def test_a_single_long_step_gets_its_bar(screen) -> None:
    stream, leader = screen
    with Progress(stream, patience_s=0.01) as progress:
        progress.update(0, 3, "web01@current")
        assert "web01@current" in wait_for(leader, "0/3")


def test_later_steps_move_the_bar(screen) -> None:
    stream, leader = screen
    with Progress(stream, patience_s=0.01) as progress:
        progress.update(0, 3, "first")
        wait_for(leader, "0/3")
        progress.update(2, 3, "second")
        assert "second" in wait_for(leader, "2/3")


def test_short_work_draws_nothing(screen) -> None:
    stream, leader = screen
    with Progress(stream, patience_s=60) as progress:
        progress.update(0, 1, "web01")
    assert written(leader) == ""


@pytest.mark.parametrize("enabled", [False, True])
def test_quiet_or_no_terminal_draws_nothing(screen, enabled: bool) -> None:
    stream = io.StringIO() if enabled else screen[0]
    with Progress(stream, enabled=enabled, patience_s=0) as progress:
        progress.update(0, 1, "web01")
        time.sleep(0.05)
        progress.update(1, 1, "web01")
    assert written(screen[1]) == ""
    assert not enabled or stream.getvalue() == ""


def test_names_cannot_move_the_cursor(screen) -> None:
    stream, leader = screen
    with Progress(stream, patience_s=0.01) as progress:
        progress.update(0, 1, "evil\x1b[31;1;5mX [bold]")
        seen = wait_for(leader, "0/1")
    assert "\x1b[31;1;5m" not in seen
    assert "evil\\u001B[31;1;5mX [bold]" in seen


def test_rich_is_not_imported_for_short_work() -> None:
    code = (
        "import sys, pty, os; from undercroft.cli.render.progress import Progress\n"
        "leader, follower = pty.openpty()\n"
        "with Progress(os.fdopen(follower, 'w')) as progress: progress.update(0, 1, 'x')\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
