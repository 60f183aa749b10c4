"""Machines without an operating system, for tests where the disk alone matters; a witness of all hook calls.

ident = baremachines.define(host, "bad-01", image)
baremachines.install_witness(host)
baremachines.calls(host, "bad-01")["prepare begin"]
"""

import uuid
from collections import Counter
from pathlib import Path

import hookhost
import libvirtd
from fleethost import FleetHost
from fleetstates import mac_of

_WITNESS = """#!/bin/sh
cat >/dev/null
echo "$1 $2 $3" >>{record}
"""


def xml(name: str, ident: str, image: Path) -> str:
    """Return a machine's definition: one disk, one interface on the bridge."""
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{ident}</uuid><genid/>"
        "<memory unit='MiB'>16</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        "<emulator>/usr/bin/qemu-system-x86_64</emulator>"
        f"{libvirtd.disk_xml(image, 'vda')}{hookhost.interface(mac_of(name))}"
        "<memballoon model='none'/></devices></domain>"
    )


def define(host: FleetHost, name: str, image: Path) -> str:
    """Define a machine and return its UUID."""
    ident = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{host.daemon.root.name}"))
    path = host.daemon.images / f"{name}.xml"
    path.write_text(xml(name, ident, image))
    host.virsh("define", str(path))
    return ident


def install_witness(host: FleetHost) -> None:
    """Install a second hook, which writes down each call and knows nothing of Undercroft."""
    hook = host.daemon.root / "etc" / "hooks" / "qemu.d" / "witness"
    hook.write_text(_WITNESS.format(record=host.daemon.images / "witness"))
    hook.chmod(0o755)


def calls(host: FleetHost, name: str) -> Counter[str]:
    """Return how often libvirt has called its hooks for a machine, by "operation sub"."""
    lines = (host.daemon.images / "witness").read_text().splitlines()
    return Counter(line.partition(" ")[2] for line in lines if line.split()[0] == name)
