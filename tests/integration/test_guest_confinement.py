"""What code in the guest service's process reaches: all without the confinement, nothing with it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.guesthost import PlayedGuest, ServiceProcess

from undercroft.guestservice.confine import own_user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")

ATTACKS = """
import ctypes, json, os, socket, subprocess, sys, time
from pathlib import Path
confined, own, libvirt, image, kept, port, agent = sys.argv[1:]
if confined == "confined":
    from undercroft.guestservice.confine import give_up
    give_up(Path(own), "")

def connect(kind, address):
    with socket.socket(kind, socket.SOCK_STREAM) as line:
        line.settimeout(5)
        line.connect(address)

def trace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, int(agent), 0, 0) != 0:  # PTRACE_SEIZE: it runs on
        raise OSError(ctypes.get_errno(), "ptrace")

def own_memory():
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()  # of the same user, as the process that verifies the log
    if child == 0:
        time.sleep(60)
    try:
        if libc.ptrace(0x4206, child, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)

def become_root():
    os.setuid(0)
    Path(own, "as-root").touch()
    assert os.stat(Path(own, "as-root")).st_uid == 0

attacks = {
    "libvirt's socket": lambda: connect(socket.AF_UNIX, libvirt),
    "an image that everybody may read": lambda: Path(image).read_bytes(),
    "root's folder": lambda: os.listdir(kept),
    "the network": lambda: connect(socket.AF_INET, ("127.0.0.1", int(port))),
    "the agent's memory": trace,
    "the agent's life": lambda: os.kill(int(agent), 0),
    "the agent in /proc": lambda: Path("/proc", agent, "cmdline").read_bytes(),
    "a device": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)),
    "another namespace": lambda: os.unshare(0x20000) if hasattr(os, "unshare") else
        (_ for _ in ()).throw(OSError()) if ctypes.CDLL(None).unshare(0x20000) else None,
    "a program of the host's": lambda: subprocess.run(["/usr/bin/true"], check=True),
    "a socket of another kind": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "its own kind's memory": lambda: own_memory(),
    "root again": become_root,
}
reached = []
for name, attack in attacks.items():
    try:
        attack()
        reached.append(name)
    except OSError:
        pass
Path(own, "still-its-own").touch()
os.urandom(8)
print(json.dumps(reached))
"""


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[list[str]]:
    """A host's things, as the attacks name them: sockets and files of others, and a process of root's."""
    image, kept, libvirt = tmp_path / "disk.qcow2", tmp_path / "root", tmp_path / "libvirt-sock"
    image.write_bytes(b"an image")
    image.chmod(0o644)
    kept.mkdir(mode=0o700)
    for folder in (tmp_path, *tmp_path.parents):
        if os.stat(folder).st_mode & 0o005 != 0o005 and folder != kept:
            folder.chmod(os.stat(folder).st_mode | 0o055)  # not by the folders above alone
    with (
        socket.socket(socket.AF_UNIX) as daemon,
        socket.socket(socket.AF_INET) as server,
        subprocess.Popen(["sleep", "60"]) as agent,
    ):
        daemon.bind(str(libvirt))
        libvirt.chmod(0o777)
        daemon.listen()
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        yield [str(each) for each in (tmp_path / "own", libvirt, image, kept, port, agent.pid)]
        agent.kill()


def reached(confined: str, surroundings: list[str]) -> list[str]:
    Path(surroundings[0]).mkdir(exist_ok=True)
    command = [sys.executable, "-c", ATTACKS, confined, *surroundings]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def test_a_confined_service_reaches_nothing_but_its_own_folder(surroundings: list[str]) -> None:
    assert reached("confined", surroundings) == []
    assert (Path(surroundings[0]) / "still-its-own").stat().st_uid == own_user()[0]


def test_control_without_the_confinement_all_of_it_is_reached(surroundings: list[str]) -> None:
    found = reached("not", surroundings)
    assert set(found) >= {
        "libvirt's socket", "an image that everybody may read", "root's folder", "the network",
        "the agent's memory", "the agent's life", "the agent in /proc", "a program of the host's",
        "a socket of another kind", "its own kind's memory", "root again",
    }  # fmt: skip


def test_the_confined_process_serves_guests_and_verifies_its_log(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path, confined=True)
    try:
        service.start()
        with service.client() as client:
            guest = PlayedGuest(client).meet()
            assert guest.answer([1, b"builds", 1])[0][0] == 0
            assert client.verify()["fits"]
        assert service.process
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        assert f"Uid:\t{own_user()[0]}\t" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert service.stop()[0] == 0
    finally:
        service.close()


def test_a_service_that_cannot_be_confined_does_not_run_and_says_what_to_do(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path, confined=True)
    try:
        with pytest.raises(
            RuntimeError, match=r"cannot be confined.*systemctl enable --now undercroft-guest"
        ):
            service.start("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    finally:
        service.close()
