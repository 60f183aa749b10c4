"""The socket of QEMU's NBD server, and what a QEMU that a guest took over may have put in its place."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from undercroft.adapters.libvirt.endpoint import Endpoint
from undercroft.errors import DeniedError, OperationError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "nbd.sock"))
        listener.listen()
        yield listener


def test_a_connection_reaches_the_server(server: socket.socket, tmp_path: Path) -> None:
    endpoint = Endpoint(tmp_path / "nbd.sock")
    with endpoint.connect() as client:
        peer, _address = server.accept()
        with peer:
            peer.sendall(b"NBDMAGIC")
            assert client.recv(8) == b"NBDMAGIC"
            assert client.gettimeout() is None
    endpoint.hang_up()


def test_a_link_to_a_socket_that_only_root_may_use_is_not_followed(
    server: socket.socket, tmp_path: Path
) -> None:
    planted = tmp_path / "planted.sock"
    planted.symlink_to(tmp_path / "nbd.sock")
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(planted))  # without the check the connection is made
    with pytest.raises(DeniedError, match="not a socket"):
        Endpoint(planted).connect()


def test_a_server_of_another_user_is_refused(server: socket.socket, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    control = Endpoint(tmp_path / "nbd.sock")
    control.connect().close()
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(DeniedError, match="its folder belongs to user 65534"):
        Endpoint(tmp_path / "nbd.sock").connect()
    server.close()
    control.hang_up()


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="No such file"):
        Endpoint(tmp_path / "none.sock").connect()


def test_hanging_up_ends_the_copies_of_other_processes_and_waits_for_the_server(
    server: socket.socket, tmp_path: Path
) -> None:
    endpoint = Endpoint(tmp_path / "nbd.sock")
    client = endpoint.connect()
    peer, _address = server.accept()
    noticed = threading.Event()

    def serve() -> None:
        peer.sendall(bytes(100_000))
        assert peer.recv(1) == b""
        noticed.set()
        peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    endpoint.hang_up()
    assert noticed.is_set()
    thread.join()
    with client, pytest.raises(OSError, match="Broken pipe"):
        client.sendall(b"x")
    with pytest.raises(OperationError, match="is over"):
        endpoint.connect()
