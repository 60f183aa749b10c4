"""The host's addresses, in a network namespace of the test's own."""

import socket
import struct
import subprocess
import threading
from ipaddress import ip_address

import pytest
from netns import in_own_network

from undercroft.adapters import hostnetwork
from undercroft.adapters.hostnetwork import host_addresses
from undercroft.adapters.netlinkcodec import attribute, message
from undercroft.errors import OperationError


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@in_own_network
def test_a_host_without_addresses_has_none() -> None:
    ip("link", "set", "lo", "up")
    assert host_addresses() == ()


@in_own_network
def test_all_devices_addresses_are_the_hosts_once_each_but_loopback_ones() -> None:
    ip("link", "set", "lo", "up")
    ip("addr", "add", "203.0.113.9/32", "dev", "lo")
    for name in ("br0", "br1"):
        ip("link", "add", name, "type", "bridge")
        ip("addr", "add", "fe80::ff:fe00:1/64", "dev", name, "nodad")  # as devices with one MAC have it
    ip("addr", "add", "192.0.2.1/24", "dev", "br0")
    ip("addr", "add", "192.0.2.2/24", "dev", "br0")
    ip("addr", "add", "198.51.100.1", "peer", "198.51.100.2", "dev", "br1")
    ip("addr", "add", "2001:db8::1/64", "dev", "br1", "nodad")
    expected = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "203.0.113.9", "2001:db8::1", "fe80::ff:fe00:1"]
    assert host_addresses() == tuple(map(ip_address, expected))
    ip("link", "del", "br1")
    assert ip_address("2001:db8::1") not in host_addresses()


@in_own_network
def test_thousands_of_addresses_are_all_told() -> None:
    ip("link", "add", "br0", "type", "bridge")
    batch = "".join(f"addr add 10.0.{n >> 8}.{n & 255}/8 dev br0\n" for n in range(3000))
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True, capture_output=True)
    assert len(host_addresses()) == 3000


class Kernel:
    """Answers as no kernel should."""

    def __init__(self, *answers: bytes) -> None:
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._answers = answers
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def socket(self, *_arguments: object) -> "Kernel":
        return self

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._near.close()
        self._far.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self._near, name)

    def bind(self, _address: object) -> None:
        pass

    def _serve(self) -> None:
        for answer in self._answers:
            self._far.recv(4096)
            self._far.send(answer)


def address(raw: bytes, family: int = socket.AF_INET, sequence: int = 1, flags: int = 0) -> bytes:
    return message(20, flags, sequence, struct.pack("=BBBBI", family, 24, 0, 0, 1) + attribute(1, raw))


def done(sequence: int = 1) -> bytes:
    return message(3, 0, sequence, b"\0\0\0\0")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (address(b"\1\2\3"), "cannot be read"),
        (address(b"\1\2\3\4", socket.AF_INET6), "cannot be read"),
        (address(b""), "cannot be read"),
        (message(2, 0, 1, struct.pack("=i", -1)), "error 1"),
        (b"\xff" * 16, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_and_no_address_is_left_out(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, told: str
) -> None:
    monkeypatch.setattr(hostnetwork.socket, "socket", Kernel(answer).socket)
    with pytest.raises(OperationError, match=told):
        host_addresses()


def test_addresses_that_changed_while_they_were_told_are_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted = address(b"\xc0\0\2\1", flags=0x10) + done()
    again = address(b"\xc0\0\2\7") + address(b"\xc0\0\2\2", sequence=2) + done(2)  # the first is a late one
    monkeypatch.setattr(hostnetwork.socket, "socket", Kernel(interrupted, again).socket)
    assert host_addresses() == (ip_address("192.0.2.2"),)


def test_addresses_that_never_stand_still_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [address(b"\xc0\0\2\1", sequence=n, flags=0x10) + done(n) for n in range(1, 6)]
    monkeypatch.setattr(hostnetwork.socket, "socket", Kernel(*answers).socket)
    with pytest.raises(OperationError, match="try again"):
        host_addresses()
