"""The agent's socket: for root alone, and one agent's at a time."""

import socket
import stat
from pathlib import Path

import pytest

from undercroft.agent.ownsocket import is_trusted, listening
from undercroft.errors import OperationError, StateError


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "run" / "admission.sock"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_socket_and_its_folder_are_for_root_alone(address: Path) -> None:
    with listening(address, 4):
        assert (mode(address), mode(address.parent)) == (0o600, 0o700)


def test_who_has_the_agent_s_own_user_is_trusted(address: Path) -> None:
    with listening(address, 4) as listener, socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(address))
        peer, _ = listener.accept()
        with peer:
            assert is_trusted(peer)


def test_the_socket_that_a_dead_agent_left_is_replaced(address: Path) -> None:
    address.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address))
    with listening(address, 4), socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(address))


def test_a_second_agent_is_told_that_another_answers(address: Path) -> None:
    with listening(address, 4), pytest.raises(StateError, match="another agent answers there"):
        listening(address, 4)


def test_what_else_stands_there_is_left_alone(address: Path) -> None:
    address.parent.mkdir()
    address.write_text("mine")
    with pytest.raises(StateError, match="is no socket: move it away"):
        listening(address, 4)
    assert address.read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_told_with_its_place(address: Path) -> None:
    address.parent.write_text("a file")
    with pytest.raises(OperationError, match=r"admission\.sock: "):
        listening(address, 4)
