"""The units as systemd itself reads them, and the agent's capabilities as enough for what it does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
AGENT = (UNITS / "undercroft.service").read_text()

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
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
