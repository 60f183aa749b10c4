"""Where a snapshot's bytes lie: in the images' own tables, or in the files below what it put on top.

An internal snapshot is a state of the machine's images. An external one left them as they were and gave the
machine a new top image for each disk: what lies below that image is the state. These chains are libvirt's
word, never an image's header.
"""

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
        UnsupportedError: part of it is internal and part external, or the machine's chain does not lead to
            it any more.
    """
    kinds = {disk.target: disk for disk in snapshot.disks if disk.kind not in {"no", ""}}
    external = {target: disk for target, disk in kinds.items() if disk.kind == _EXTERNAL}
    if not external:
        return Whereabouts(domain, snapshot.name, own=True)
    if len(external) != len(kinds):
        raise UnsupportedError(
            f"{domain.name}: snapshot {snapshot.name!r} is internal for some disks and external for others, "
            "so no one state of its files is it"
        )
    disks = tuple(
        _below(domain, snapshot, disk, external[disk.target].path) if disk.target in external else disk
        for disk in domain.disks
    )
    return Whereabouts(replace(domain, disks=disks), CURRENT, own=False)


def _below(domain: Domain, snapshot: DomainSnapshot, disk: DomainDisk, overlay: str) -> DomainDisk:
    """Return a disk as it is below the image that an external snapshot put on top."""
    layers = (ChainEntry(disk.path, disk.format, disk.data_file), *(disk.chain or ()))
    for depth, layer in enumerate(layers[:-1]):
        if layer.path == overlay:
            top, *rest = layers[depth + 1 :]
            return replace(disk, path=top.path, format=top.format, chain=tuple(rest), data_file=top.data_file)
    raise UnsupportedError(
        f"{domain.name}: {disk.target} does not lie on {overlay or 'a file'} of snapshot {snapshot.name!r} "
        "any more, as far as libvirt says, so the snapshot's state cannot be found"
    )
