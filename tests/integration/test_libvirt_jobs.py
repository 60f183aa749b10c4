"""The backup job of a scan: it yields to others, and is ended however the scan ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import guests
import libvirtd
import libvirthost
import pytest
from libvirthost import NAME, Host, wait_until
from program import PROGRAM

from undercroft.adapters.libvirt import ScratchLimits
from undercroft.adapters.libvirt.hypervisor import SYSTEM_STATE_DIRECTORY
from undercroft.errors import NotFoundError, OperationError

MISSING = libvirthost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("libvirt-jobs"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

AA_HELPER = Path("/usr/lib/libvirt/virt-aa-helper")
HOLDER = """
import signal, sys, time
from pathlib import Path
from undercroft.adapters.libvirt import LibvirtHypervisor, ScratchLimits
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
with LibvirtHypervisor(sys.argv[1], ScratchLimits(Path(sys.argv[2])), Path(sys.argv[3])) as hypervisor:
    with hypervisor.point_in_time(hypervisor.find(sys.argv[4])) as moment:
        print(moment._guard.pid, flush=True)
        time.sleep(60)
"""

AT_HOME = """
from undercroft.adapters.libvirt import LibvirtHypervisor
with LibvirtHypervisor() as hypervisor:
    machine = hypervisor.find("writer01")
    with hypervisor.point_in_time(machine) as moment, moment.connect("vda") as connection:
        print(hypervisor.uri, connection.recv(8).decode())
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with libvirthost.running() as running:
        yield running


def test_another_programs_backup_is_left_alone(host: Host) -> None:
    folder = host.daemon.images / "backup"
    folder.mkdir()
    folder.chmod(0o777)
    server = f"<server transport='unix' socket='{folder}/socket'/>"
    host.domain.backupBegin(f"<domainbackup mode='pull'>{server}</domainbackup>", None)
    try:
        with pytest.raises(OperationError, match=r"another program's backup.*virsh domjobinfo"), host.held():
            pass
        assert host.has_job()
    finally:
        host.domain.abortJob()
    wait_until(host.is_clean)


def test_a_second_scan_is_told_of_the_first(host: Host) -> None:
    with host.held() as moment:
        with pytest.raises(OperationError, match="another scan"), host.held():
            pass
        moment.connect("vda").close()
    assert host.is_clean()


def test_an_error_in_the_scan_ends_the_job(host: Host) -> None:
    with pytest.raises(ZeroDivisionError), host.held():
        raise ZeroDivisionError
    assert host.is_clean()


@contextmanager
def holder(host: Host) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Another process that holds the machine: (process, its guard's id)."""
    arguments = [host.daemon.uri, str(host.scratch), str(host.daemon.state_directory), NAME]
    process = subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process:
        yield process, int(process.stdout.readline())
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_scan_that_is_asked_to_end_ends_its_job_itself(host: Host, number: signal.Signals) -> None:
    with holder(host) as (process, guard):
        os.kill(guard, signal.SIGKILL)
        process.send_signal(number)
        assert process.wait(60) == (-number if number == signal.SIGINT else 128 + number)
        assert host.is_clean()


def test_the_guard_ends_the_job_of_a_killed_scan(host: Host) -> None:
    with holder(host) as (process, _guard):
        process.kill()
        process.wait()
        wait_until(host.is_clean)
    host.goes_on()


def test_the_next_scan_ends_the_job_of_a_scan_that_was_killed_with_its_guard(host: Host) -> None:
    with holder(host) as (process, guard):
        os.kill(guard, signal.SIGKILL)
        process.kill()
        process.wait()
    time.sleep(0.3)
    assert host.has_job(), "control: nobody else ends it"
    with host.held() as moment:
        moment.connect("vda").close()
    assert host.is_clean()


def test_a_client_that_never_finished_its_handshake_does_not_freeze_the_guest(host: Host) -> None:
    with host.held() as moment:
        idle = moment.connect("vda")
        idle.recv(18)
    host.goes_on()
    idle.close()
    assert host.is_clean()


def test_a_machine_that_overwrites_too_much_is_let_go_and_the_scan_is_void(host: Host) -> None:
    limits = ScratchLimits(host.scratch, max_bytes=1 << 20, poll_s=0.01)
    with pytest.raises(OperationError, match="overwrote so much"), host.held(limits):
        wait_until(lambda: not host.has_job())
    assert host.is_clean()
    host.goes_on()


def test_a_machine_is_not_held_where_there_is_no_room_for_what_it_may_overwrite(host: Host) -> None:
    limits = ScratchLimits(host.scratch, reserve_bytes=1 << 60)
    with pytest.raises(OperationError, match="MiB are free"), host.held(limits):
        pass
    assert host.is_clean()


def test_a_machine_with_small_disks_needs_no_more_room_than_they_have(host: Host) -> None:
    with host.held(ScratchLimits(host.scratch, max_bytes=1 << 60)):
        assert host.has_job()
    assert host.is_clean()


def test_on_a_host_of_its_own_a_machine_is_held_without_any_option(host: Host) -> None:
    command = [*host.daemon.inside, sys.executable, "-c", AT_HOME]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("qemu:///system NBDMAGIC\n", "")
    assert host.is_clean()


def test_the_program_scans_a_running_machine_by_name_through_the_sandbox(host: Host) -> None:
    done = subprocess.run(
        [*host.daemon.inside, PROGRAM, "scan", "-d", "writer01", "-f", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr  # it is a machine of two data disks, without a system
    report = json.loads(done.stdout)
    assert report["sandboxed"] is True
    assert {disk["format_source"] for disk in report["disks"]} == {"libvirt"}
    volumes = {volume["disk"]: volume for volume in report["states"][0]["inventory"]["coverage"]["volumes"]}
    assert (volumes["vda"]["content"], volumes["vda"]["status"]) == ("ext4", "read")
    assert host.is_clean()


@pytest.mark.skipif(not AA_HELPER.exists(), reason="libvirt is built without AppArmor here")
def test_libvirts_apparmor_profile_lets_qemu_make_the_socket_and_write_the_scratch_file(
    tmp_path: Path,
) -> None:
    machine_uuid = str(uuid.uuid4())
    xml = libvirtd.domain_xml("web01", guests.boot_files(), tmp_path / "serial", [])
    xml = xml.replace("</name>", f"</name><uuid>{machine_uuid}</uuid>")
    scratch = tmp_path / "vda.scratch"
    scratch.touch()
    command = [str(AA_HELPER), "--dryrun", "-r", "-f", str(scratch), "-u", f"libvirt-{machine_uuid}"]
    done = subprocess.run(command, input=xml, capture_output=True, text=True, check=True)
    assert re.search(rf'"{SYSTEM_STATE_DIRECTORY}/domain-[^/]*web01/\*" rw,', done.stderr)
    assert f'"{scratch}" rwk,' in done.stderr


def test_a_machine_that_stops_while_it_is_held_leaves_nothing_behind(host: Host) -> None:
    images = host.daemon.images
    folder = images / "short-boot"
    folder.mkdir()
    boot = guests.with_workload(guests.boot_files(), "while :; do sleep 1; done", folder)
    disk = guests.ext4_image(images / "short.qcow2", 16)
    xml = libvirtd.domain_xml("short01", boot, images / "short", [libvirtd.disk_xml(disk, "vda")])
    domain = host.connection.createXML(xml)
    with (
        host.hypervisor() as hypervisor,
        hypervisor.point_in_time(hypervisor.find("short01")) as moment,
        moment.connect("vda") as connection,
    ):
        domain.destroy()
        with suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
        with pytest.raises(OperationError):
            moment.connect("vda")
    assert host.is_clean()


def test_a_machine_of_which_no_disk_may_be_held_is_told_with_the_reason(host: Host) -> None:
    with host.hypervisor() as hypervisor:
        machine = hypervisor.find(NAME)
        encrypted = tuple(replace(disk, encrypted=True) for disk in machine.disks)
        with (
            pytest.raises(OperationError, match="its scratch file would hold plain text"),
            hypervisor.point_in_time(replace(machine, disks=encrypted)),
        ):
            pass
    assert host.is_clean()


def test_a_disk_that_is_not_served_is_told_with_the_reason(host: Host) -> None:
    with host.hypervisor() as hypervisor:
        machine = hypervisor.find(NAME)
        disks = (machine.disks[0], replace(machine.disks[1], encrypted=True))
        with hypervisor.point_in_time(replace(machine, disks=disks)) as moment:
            assert moment.targets == ("vda",)
            assert "plain text" in moment.unavailable["vdb"]
            with pytest.raises(NotFoundError, match="vdb of writer01: not served, encrypted"):
                moment.connect("vdb")
            moment.connect("vda").close()
