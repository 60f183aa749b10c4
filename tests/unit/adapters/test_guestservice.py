"""The client of the guest service before a service that answers with anything."""

import socket
import threading

import pytest

from undercroft.adapters.guestservice import GuestService
from undercroft.errors import OperationError

WRONG = [
    b"{",
    b"\xff",
    b"[1]",
    b"7",
    b'{"event": "ready"}',
    b'{"event": 1, "machine": "m", "execution": "e"}',
]


def answering(folder, data):
    """Return the path of a socket whose one connection answers every packet with `data`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(folder / "service"))
    listener.listen()

    def serve():
        with listener, listener.accept()[0] as line:
            while line.recv(65_536):
                line.send(data)

    threading.Thread(target=serve, daemon=True).start()
    return folder / "service"


@pytest.mark.parametrize("data", WRONG)
def test_a_service_that_answers_with_something_else_is_an_error_that_names_it(tmp_path, data):
    service = GuestService(answering(tmp_path, data), timeout_s=0.5)
    with pytest.raises(OperationError, match="guest service"):
        service.watch()
    service.close()
