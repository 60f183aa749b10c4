"""What a machine may run that none of its disks holds: media, a kernel of the host, the network.

A scan reads disks. A verdict on a machine that boots something else says little, and has to say so. Follows
libvirt's "Domain XML format"; pure.
"""

from collections.abc import Iterator
from xml.etree import ElementTree

MAX_NAMED = 16
_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
_RUNS = ("-drive", "-blockdev", "-kernel", "-initrd", "-cdrom", "-hda", "-loadvm", "-incoming", "-device")
"""Arguments of QEMU that give it something to run."""


def runs_beside(domain: ElementTree.Element) -> tuple[str, ...]:
    """Return what a domain may run beside its disks, in words; at most `MAX_NAMED`."""
    found = list(dict.fromkeys((*_system(domain), *_devices(domain), *_arguments(domain))))
    if len(found) > MAX_NAMED:
        found = [*found[:MAX_NAMED], f"{len(found) - MAX_NAMED} more"]
    return tuple(found)


def _system(domain: ElementTree.Element) -> Iterator[str]:
    if domain.find("os/kernel") is not None:
        yield "a kernel of the host"
    if any(boot.get("dev") == "network" for boot in domain.findall("os/boot")):
        yield "what the network gives it"


def _devices(domain: ElementTree.Element) -> Iterator[str]:
    for disk in domain.findall("devices/disk"):
        device = disk.get("device", "disk")
        target = disk.find("target")
        if device in {"cdrom", "floppy"} and disk.find("source") is not None:
            yield f"the {device} in {target.get('dev', '?') if target is not None else '?'}"
    for interface in domain.findall("devices/interface"):
        if interface.find("boot") is not None:
            yield "what the network gives it"
    for passed in domain.findall("devices/hostdev"):
        if passed.get("type") in {"scsi", "scsi_host", "pci", "mdev", "usb"}:
            yield f"a {passed.get('type')} device of the host"
    if domain.find("devices/filesystem") is not None:
        yield "a folder of the host"


def _arguments(domain: ElementTree.Element) -> Iterator[str]:
    for argument in domain.findall(f"{_QEMU}commandline/{_QEMU}arg"):
        value = (argument.get("value") or "").replace("--", "-", 1)
        if value.startswith(_RUNS):
            yield f"what {value.split('=')[0][:32]} of its qemu:commandline gives it"
