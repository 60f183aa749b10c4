"""A machine as libvirt's hook gets it: from the event's XML, and from the record what the XML lacks.

Nothing here asks libvirt: it waits for the hook.
"""

from collections.abc import Mapping
from dataclasses import replace

from undercroft.adapters.libvirt.machine_xml import parse_machine
from undercroft.model.domain import DiskKind, Domain, Power
from undercroft.model.execution import HookEvent

VolumePaths = Mapping[tuple[str, str], str]
"""Path of a storage volume by (pool, volume), as last surveyed."""


def hooked_domain(event: HookEvent, before: Domain | None, volumes: VolumePaths) -> Domain:
    """Return the machine that an event is about.

    Args:
        event: of any operation; its XML is libvirt's.
        before: the machine on record, None where it is new: its snapshots and marks are kept.
        volumes: where storage volumes lie.

    Raises:
        InputError: the XML is malformed or over a limit.
    """
    definition = parse_machine(event.xml)
    disks = []
    for disk in definition.disks.disks:
        named = definition.disks.volumes.get(disk.target)
        if disk.kind is DiskKind.VOLUME and named is not None and not disk.path:
            path = volumes.get((named.pool, named.volume), "")
            problem = "" if path else f"storage volume {named.pool}/{named.volume}: in no survey yet"
            disks.append(replace(disk, path=path, problem=disk.problem or problem))
        else:
            disks.append(disk)
    known = before or Domain(event.uuid, event.name, Power.OFF, persistent=False)
    bridges = {item.source: item.bridge for item in known.interfaces if item.bridge}
    reserved = {(item.mac, item.source): item.addresses for item in known.interfaces}
    return replace(
        known,
        name=event.name,
        # The number of the process that is about to be, not of the one that was seen last.
        libvirt_id=definition.libvirt_id,
        genid=definition.genid,
        disks=tuple(disks),
        interfaces=tuple(
            replace(
                item,
                bridge=item.bridge or bridges.get(item.source, ""),
                # A network's reservations are in none of libvirt's XML but the network's own.
                addresses=reserved.get((item.mac, item.source), ()),
            )
            for item in definition.interfaces
        ),
        ownership=definition.ownership,
        beside=definition.beside,
        channel=definition.channel is not None,
        # Nobody listens before QEMU runs: a look tells where.
        channel_path=known.channel_path if known.libvirt_id == definition.libvirt_id else "",
    )
