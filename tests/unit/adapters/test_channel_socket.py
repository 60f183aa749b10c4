"""What a machine's channel may lead to, where a QEMU that was taken over has its hands on the folder."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from undercroft.adapters.channelsocket import connected
from undercroft.errors import OperationError

NAME = "org.undercroft.channel.0"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short name: a socket's address has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        folder.mkdir()
        yield folder


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    folder = tmp_path / "domain-1-web01"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / NAME))
        listener.listen(1)
        yield listener


def test_a_socket_is_connected_to(tmp_path: Path, listener: socket.socket) -> None:
    with connected(str(tmp_path / "domain-1-web01" / NAME)) as line:
        other, _ = listener.accept()
        with other:
            line.setblocking(True)
            line.sendall(b"hello")
            assert other.recv(5) == b"hello"


def test_folders_of_the_systems_own_may_be_links(tmp_path: Path, listener: socket.socket) -> None:
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    with connected(str(link / "domain-1-web01" / NAME)):
        listener.accept()[0].close()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, listener: socket.socket) -> None:
    mine = tmp_path / "domain-2-evil"
    mine.mkdir()
    (mine / NAME).symlink_to(tmp_path / "domain-1-web01" / NAME)
    with pytest.raises(OperationError, match="no socket"):
        connected(str(mine / NAME))


def test_a_folder_that_leads_to_another_machines_is_told(tmp_path: Path, listener: socket.socket) -> None:
    (tmp_path / "domain-2-evil").symlink_to(tmp_path / "domain-1-web01")
    with pytest.raises(OperationError, match="none of this machine's"):
        connected(str(tmp_path / "domain-2-evil" / NAME))


@pytest.mark.parametrize("kind", ["file", "fifo", "folder", "nothing", "nobody"])
def test_what_is_no_socket_or_has_nobody_at_it_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / NAME
    match kind:
        case "file":
            path.write_bytes(b"")
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "nobody":
            with socket.socket(socket.AF_UNIX) as gone:
                gone.bind(str(path))
    with pytest.raises(OperationError, match=NAME):
        connected(str(path))


def test_a_full_queue_keeps_nobody_waiting(tmp_path: Path, listener: socket.socket) -> None:
    path = str(tmp_path / "domain-1-web01" / NAME)
    with connected(path), connected(path), pytest.raises(OperationError, match="unavailable"):
        connected(path)
