"""Machines by name, ID and UUID, with the test driver that libvirt itself carries."""

import subprocess
import sys
from pathlib import Path

import pytest

from undercroft.adapters.libvirt import LibvirtHypervisor, default_uri
from undercroft.errors import NotFoundError, OperationError

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


@pytest.fixture
def hypervisor() -> LibvirtHypervisor:
    pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    return LibvirtHypervisor("test:///default")


@pytest.mark.parametrize("key", ["test", "1", UUID, UUID.upper(), UUID.replace("-", "")])
def test_a_machine_is_found_by_name_id_and_uuid(hypervisor: LibvirtHypervisor, key: str) -> None:
    with hypervisor:
        machine = hypervisor.find(key)
    assert (machine.name, machine.uuid, machine.running) == ("test", UUID, True)
    assert [(disk.target, disk.path, disk.format) for disk in machine.disks] == [
        ("vda", "/guest/diskimage1", "raw")
    ]


@pytest.mark.parametrize(
    "key", ["tset", "77", "9" * 5000, UUID.replace("6", "7"), "", "\x1b[31m", "../etc/passwd"]
)
def test_a_machine_that_is_not_there_is_not_found(hypervisor: LibvirtHypervisor, key: str) -> None:
    with hypervisor, pytest.raises(NotFoundError, match="not on test:///default"):
        hypervisor.find(key)


def test_a_near_name_is_offered(hypervisor: LibvirtHypervisor) -> None:
    with hypervisor, pytest.raises(NotFoundError, match=r"did you mean test\?"):
        hypervisor.find("tset")


def test_a_driver_that_has_no_backups_says_so(hypervisor: LibvirtHypervisor) -> None:
    with (
        hypervisor,
        pytest.raises(OperationError, match="not supported"),
        hypervisor.point_in_time(hypervisor.find("test")),
    ):
        pass


def test_a_libvirt_that_does_not_answer_is_named_with_a_cure(tmp_path: Path) -> None:
    pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    uri = f"qemu+unix:///system?socket={tmp_path}/none"
    with pytest.raises(OperationError, match=r"Failed to connect.*systemctl start libvirtd"):
        LibvirtHypervisor(uri)


@pytest.mark.parametrize("uri", ["qemu+ssh://host/system", "qemu://host/system", "qemu+tls:///system"])
def test_another_hosts_machines_are_not_looked_for(uri: str) -> None:
    with pytest.raises(OperationError, match="run undercroft on that host"):
        LibvirtHypervisor(uri)


def test_the_default_is_libvirts_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    assert default_uri() == "test:///default"
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI")
    assert default_uri() in {"qemu:///system", "qemu:///session"}


def test_a_missing_binding_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(OperationError, match=r"python3-libvirt.*undercroft\[libvirt\]"):
        LibvirtHypervisor("test:///default")


def test_errors_are_not_printed_by_libvirt_itself() -> None:
    pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    script = (
        "from undercroft.adapters.libvirt import LibvirtHypervisor\n"
        "from undercroft.errors import NotFoundError\n"
        "try: LibvirtHypervisor('test:///default').find('none')\n"
        "except NotFoundError: print('not found')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("not found\n", "")


def test_importing_the_adapter_does_not_load_libvirt() -> None:
    script = "import sys, undercroft.adapters.libvirt; print('libvirt' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
