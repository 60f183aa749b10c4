"""Where a snapshot's bytes lie: in the images' own tables, or in the files below what it put on top.

An internal snapshot is a state of the images that the machine had then. An external one left these as they
were and gave the machine a new top image for each disk: what lies below that image is the state. An internal
snapshot that has external ones after it lies in an image further down. These chains are libvirt's word, never
an image's header.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from undercroft.errors import UnsupportedError
from undercroft.model.domain import ChainEntry, Domain, DomainDisk, DomainSnapshot
from undercroft.model.report import CURRENT

_EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What to open, and which of its states is meant.

    Attributes:
        domain: the machine with the disks that hold the state.
        state: "current" or the snapshot's name.
        own: the disks are the machine's own: a running one has to be held while they are read.
    """

    domain: Domain
    state: str
    own: bool


def whereabouts(domain: Domain, snapshot: DomainSnapshot) -> Whereabouts:
    """Return where a snapshot lies.

    Raises:
        UnsupportedError: part of it is internal and part external, the machine's chain does not lead to it
            any more, or the images hold it under the name of the present state.
    """
    kinds = {disk.target: disk for disk in snapshot.disks if disk.kind not in {"no", ""}}
    external = {target for target, disk in kinds.items() if disk.kind == _EXTERNAL}
    if external and len(external) != len(kinds):
        raise UnsupportedError(
            f"{domain.name}: snapshot {snapshot.name!r} is internal for some disks and external for others, "
            "so no one state of its files is it"
        )
    if external:
        taken = {target: kinds[target].path for target in external}
        disks = tuple(
            _below(domain, snapshot, disk, {taken[disk.target]}) if disk.target in taken else disk
            for disk in domain.disks
        )
        return Whereabouts(replace(domain, disks=disks), CURRENT, own=False)
    if snapshot.name == CURRENT:
        raise UnsupportedError(unnameable(domain))
    later = _overlays_after(domain, snapshot)
    disks = tuple(
        _below(domain, snapshot, disk, later[disk.target])
        if disk.target in later and _paths(disk) & later[disk.target]
        else disk
        for disk in domain.disks
    )
    return Whereabouts(replace(domain, disks=disks), snapshot.name, own=disks == domain.disks)


def unnameable(domain: Domain) -> str:
    """Return why a snapshot called "current" is nothing that can be judged or reverted to."""
    return (
        f"{domain.name}: a snapshot called {CURRENT!r} cannot be told from the machine's present state, which"
        f" has that name here: rename it: virsh snapshot-edit {domain.name} {CURRENT} --rename"
    )


def _overlays_after(domain: Domain, snapshot: DomainSnapshot) -> Mapping[str, set[str]]:
    """Return the images that external snapshots which descend from this one have put on top, by disk."""
    descendants = {snapshot.name}
    overlays: dict[str, set[str]] = {}
    for later in domain.snapshots:  # parents before children
        if later.parent in descendants:
            descendants.add(later.name)
            for disk in later.disks:
                if disk.kind == _EXTERNAL and disk.path:
                    overlays.setdefault(disk.target, set()).add(disk.path)
    return overlays


def _paths(disk: DomainDisk) -> set[str]:
    return {disk.path, *(entry.path for entry in disk.chain or ())}


def _below(domain: Domain, snapshot: DomainSnapshot, disk: DomainDisk, overlays: set[str]) -> DomainDisk:
    """Return a disk as it is below the lowest of some images that external snapshots put on top."""
    layers = (ChainEntry(disk.path, disk.format, disk.data_file), *(disk.chain or ()))
    for depth in reversed(range(len(layers) - 1)):
        if layers[depth].path in overlays:
            top, *rest = layers[depth + 1 :]
            return replace(
                disk,
                path=top.path,
                format=top.format,
                chain=tuple(rest),
                data_file=top.data_file,
                identity="",  # that of the image above
            )
    overlay = ", ".join(sorted(filter(None, overlays))) or "a file"
    raise UnsupportedError(
        f"{domain.name}: {disk.target} does not lie on {overlay} of snapshot {snapshot.name!r} "
        "any more, as far as libvirt says, so the snapshot's state cannot be found"
    )
