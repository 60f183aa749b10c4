"""The units as systemd itself reads them, and the agent's capabilities as enough for what it does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from undercroft.usecases.fleet.places import Places

UNITS = Path(__file__).parents[2] / "systemd"
AGENT = (UNITS / "undercroft.service").read_text()
GUEST = (UNITS / "undercroft-guest.service").read_text()
SOCKET = (UNITS / "undercroft-guest.socket").read_text()

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        if unit.suffix == ".sysusers":
            continue
        text = unit.read_text().replace("/usr/bin/undercroft", "/bin/true")  # which is not installed here
        (tmp_path / unit.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_agent_is_up_before_libvirt_starts_any_machine() -> None:
    (before,) = re.findall(r"^Before=(.*)$", AGENT, re.MULTILINE)
    assert {"libvirtd.service", "virtqemud.service"} <= set(before.split())
    assert "Type=notify" in AGENT  # systemd waits until hooks are answered


def test_disks_that_are_block_devices_stay_readable() -> None:
    settings = [line.partition("=")[0] for line in AGENT.splitlines() if not line.startswith("#")]
    # Each of these brings a list of allowed devices (systemd.exec(5), systemd.resource-control(5)).
    assert not {"PrivateDevices", "ProtectClock", "DeviceAllow", "DevicePolicy"} & set(settings)


def test_neither_a_reader_s_memory_nor_a_row_of_failures_ends_the_agent_for_good() -> None:
    # By default systemd stops a service one of whose processes was killed for want of memory, and starts one
    # no more that has failed five times in ten seconds: whoever hands in images could so be rid of admission.
    assert {"OOMPolicy=continue", "StartLimitIntervalSec=0", "Restart=always"} <= set(AGENT.splitlines())


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="needs systemd-sysusers")
def test_the_guest_service_s_user_is_one_that_systemd_can_make(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "undercroft-guest.sysusers")]
    subprocess.run(command, check=True, capture_output=True)
    assert "undercroft-guest:" in (tmp_path / "etc" / "passwd").read_text()
    assert "tss:" in (tmp_path / "etc" / "group").read_text()


def test_the_guest_service_has_no_network_no_capability_no_image_and_no_device_but_the_tpm() -> None:
    settings = dict(line.split("=", 1) for line in GUEST.splitlines() if "=" in line and line[0] != "#")
    assert settings["CapabilityBoundingSet"] == ""
    assert (settings["PrivateNetwork"], settings["NoNewPrivileges"]) == ("yes", "yes")
    assert (settings["DevicePolicy"], settings["DeviceAllow"]) == ("closed", "/dev/tpmrm0 rw")
    assert settings["User"] not in ("", "root")
    assert "-/var/lib/libvirt" in GUEST
    assert f"ListenSequentialPacket={Places.default({}).guest_socket}" in SOCKET
    assert settings["StateDirectory"] == Places.default({}).guest_state.name


@needs_root
def test_the_agent_s_capabilities_are_enough_for_readers_and_taps() -> None:
    script = """
from contextlib import closing
import subprocess
from undercroft.adapters import netlink
from undercroft.model.job import DiskInput
from undercroft.model.schema import encode
from undercroft.usecases.session import start_reader
for words in ("link add lab0 type bridge", "tuntap add vnet0 mode tap", "link set vnet0 master lab0 up"):
    subprocess.run(["ip", *words.split()], check=True)
held = netlink.hold("vnet0")
netlink.open_tap(held)
with closing(start_reader()) as reader:
    reader.call("inventory", {"disks": [encode(DiskInput("vda", (), unread="nothing to read"))]}, ())
print(held.bridge)
"""
    assert confined(script, capabilities()) == "lab0\n"


@needs_root
def test_the_agent_s_capabilities_are_enough_to_look_around_the_firewall() -> None:
    """A host's own root may do more: what is unread under the unit alone, no command ever shows."""
    script = """
from undercroft.adapters.surroundings import gather
print([why for why in gather("undercroft", ["lo"]).unread if "CAP_" in why or "root" in why])
"""
    assert confined(script, capabilities()) == "[]\n"
    assert confined(script, capabilities() - {"net_admin"}) != "[]\n"  # control


@needs_root
def test_control_without_net_admin_no_tap_can_be_held() -> None:
    script = """
from undercroft.adapters import netlink
from undercroft.errors import OperationError
try:
    netlink.hold("lo")
except OperationError as error:
    print(error)
"""
    assert "not permitted" in confined(script, capabilities() - {"net_admin"})


def capabilities() -> set[str]:
    (names,) = re.findall(r"^CapabilityBoundingSet=(.*)$", AGENT, re.MULTILINE)
    return {name.removeprefix("CAP_").lower() for name in names.split()}


def confined(script: str, allowed: set[str]) -> str:
    """Run a script as root with no other capabilities, in a network namespace of its own."""
    bounds = ",".join(["-all", *(f"+{name}" for name in sorted(allowed))])
    confinement = ["unshare", "--net", "setpriv", "--no-new-privs", "--bounding-set", bounds]
    command = [*confinement, sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
