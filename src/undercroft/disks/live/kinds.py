"""The kinds of live systems, one function each: which files of a medium make up the root.

To add one: a function that takes the medium's tree and gives a plan, and its line in `KINDS`. What is read
of a medium follows the programs that start it: live-boot, casper, dracut's dmsquash-live, archiso.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from undercroft.disks.formats import Level
from undercroft.disks.live.bootwords import boot_words, values
from undercroft.disks.text import raw, text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError

MAX_LAYERS = 24
"""Each has caches of some 12 MiB."""
MAX_NAMES = 4096
MAX_LIST_BYTES = 64 << 10
_DEBIAN_SUFFIXES = (b".squashfs", b".ext2", b".ext3", b".ext4", b".xfs", b".dir")
_CASPER_SUFFIX = b".squashfs"
_LIVEOS_IMAGES = (b"/LiveOS/squashfs.img", b"/LiveOS/rootfs.img", b"/LiveOS/ext3fs.img")
_LIVEOS_INNER = (b"/LiveOS/rootfs.img", b"/LiveOS/ext3fs.img")
_ARCH_IMAGES = (b"/arch/x86_64/airootfs.sfs", b"/arch/x86_64/airootfs.erofs", b"/arch/aarch64/airootfs.sfs")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of live systems.

    Attributes:
        title: as an administrator calls it.
        level: how much is read.
        reads: what is read and what is not, in one sentence.
        find: takes a medium's tree and returns its plan, None where there is none.
    """

    title: str
    level: Level
    reads: str
    find: Callable[[GuestTree], "Plan | None"]


@dataclass(slots=True)
class Plan:
    """How a live system is made up.

    Attributes:
        title: what starts it.
        layers: paths of images or folders on the medium, the uppermost first.
        inner: paths of an image in the image, of which the first that is there is the root.
        problems: why the root may be another one.
        words: of the medium's boot lines.
    """

    title: str
    layers: list[bytes]
    inner: tuple[bytes, ...] = ()
    problems: list[str] = field(default_factory=list)
    words: frozenset[str] = frozenset()


def plan_for(tree: GuestTree) -> Plan | None:
    """Return the plan of the live system on a medium, None where there is none.

    Raises:
        InputError: a folder or list that says which files make it up cannot be read, or has too much.
    """
    for kind in KINDS:
        plan = kind.find(tree)
        if plan is None:
            continue
        if len(plan.layers) > MAX_LAYERS:
            raise InputError(f"{plan.title}: {len(plan.layers)} layers, the limit is {MAX_LAYERS}")
        return plan
    return None


def _debian(tree: GuestTree) -> Plan | None:
    """live-boot: what a list names, else all images of the folder; the last one is the uppermost."""
    if not _is_folder(tree, b"/live"):
        return None
    folder = b"/live"
    names: list[bytes] = []
    for listed in (b"filesystem.filesystem.module", b"filesystem.module"):
        try:
            names = tree.read(folder + b"/" + listed, MAX_LIST_BYTES).split()
            break
        except NotFoundError:
            continue
    else:
        names = sorted(name for name in _names(tree, folder) if name.endswith(_DEBIAN_SUFFIXES))
    if any(b"/" in name or name in (b".", b"..") for name in names):
        raise InputError("live-boot: its list of modules names a path")
    if not names:
        return None
    plan = Plan("live-boot", [folder + b"/" + name for name in reversed(names)])
    words = plan.words = boot_words(tree, plan.problems)
    plan.problems += _contradictions(words, {"live-media-path": "live", "module": "filesystem"})
    return plan


def _casper(tree: GuestTree) -> Plan | None:
    """casper: all images of the folder, or by the dots in their names a chain of layers."""
    if not _is_folder(tree, b"/casper"):
        return None
    stems = sorted(
        name.removesuffix(_CASPER_SUFFIX)
        for name in _names(tree, b"/casper")
        if name.endswith(_CASPER_SUFFIX)
    )
    if not stems:
        return None
    plan = Plan("casper", [])
    words = plan.words = boot_words(tree, plan.problems)
    if any(b"." in stem for stem in stems):
        leaf = _leaf(stems, words, plan)
        parts = leaf.split(b".")
        chain = [b".".join(parts[:count]) for count in range(len(parts), 0, -1)]
        missing = [stem for stem in chain if stem not in stems]
        if missing:
            raise InputError(f"casper: its layer {text(missing[0] + _CASPER_SUFFIX)} is missing")
    else:
        chain = stems[::-1]
    plan.layers = [b"/casper/" + stem + _CASPER_SUFFIX for stem in chain]
    return plan


def _leaf(stems: list[bytes], words: frozenset[str], plan: Plan) -> bytes:
    """Return the uppermost layer: by a boot line, else the live one, else the longest and a problem."""
    told = [
        raw(value).rpartition(b"/")[2].removesuffix(_CASPER_SUFFIX) for value in values(words, "layerfs-path")
    ]
    leaves = [stem for stem in stems if not any(other.startswith(stem + b".") for other in stems)]
    live = [stem for stem in leaves if b"live" in stem.split(b".")]
    for choice in (told, live, leaves):
        if len(choice) == 1:
            return choice[0]
    leaf = max(told or live or leaves, key=lambda stem: (stem.count(b"."), stem))
    names = ", ".join(text(stem) for stem in sorted(told or live or leaves))
    plan.problems.append(
        f"several layers may be the uppermost ({names}) and nothing says which one is: {text(leaf)} was read"
    )
    return leaf


def _liveos(tree: GuestTree) -> Plan | None:
    """The dmsquash-live of dracut: an image that is the root, or holds an image that is."""
    found = next((path for path in _LIVEOS_IMAGES if tree.exists(path)), None)
    if found is None:
        return None
    plan = Plan("dmsquash-live", [found], _LIVEOS_INNER)
    plan.words = boot_words(tree, plan.problems)
    overlays = [name for name in _names(tree, b"/LiveOS") if name.startswith(b"overlay")]
    if overlays:
        plan.problems.append(f"LiveOS/{text(overlays[0])}: what it changed of the root was not applied")
    usual = {"rd.live.dir": "LiveOS", "rd.live.squashimg": "squashfs.img"}
    plan.problems += _contradictions(plan.words, usual)
    return plan


def _arch(tree: GuestTree) -> Plan | None:
    """The live systems of archiso."""
    found = next((path for path in _ARCH_IMAGES if tree.exists(path)), None)
    return Plan("archiso", [found]) if found else None


def _contradictions(words: frozenset[str], usual: Mapping[str, str]) -> Iterator[str]:
    """Yield what boot lines name in place of what is usual, which was read."""
    for key, value in usual.items():
        for told in values(words, key):
            if told.strip("/") != value:
                yield f"a boot line says {key}={told}, and {value} was read"


KINDS = (
    Kind(
        "Debian live (live-boot)",
        Level.PARTLY,
        "`live/`: images and folders by `filesystem.module` or all; a volume `persistence` that keeps `/`; "
        "told, not applied: what is kept of other folders",
        _debian,
    ),
    Kind(
        "Ubuntu live (casper)",
        Level.PARTLY,
        "`casper/*.squashfs`, all or by the dots in their names; "
        "told, not applied: volumes `casper-rw` and `writable`",
        _casper,
    ),
    Kind(
        "Fedora, EL live (dmsquash-live)",
        Level.PARTLY,
        "`LiveOS/squashfs.img`, a root or with `LiveOS/rootfs.img` in it; "
        "told, not applied: `LiveOS/overlay-*`",
        _liveos,
    ),
    Kind("Arch live (archiso)", Level.PARTLY, "`arch/*/airootfs.sfs`; not: what it keeps of changes", _arch),
)
"""Looked for in this order on each volume, and only where no ordinary root was found."""


def _is_folder(tree: GuestTree, path: bytes) -> bool:
    try:
        tree.entries(path)
    except NotFoundError:
        return False
    return True


def _names(tree: GuestTree, folder: bytes) -> list[bytes]:
    names = []
    for entry in tree.entries(folder):
        names.append(entry.name)
        if len(names) > MAX_NAMES:
            raise InputError(f"{text(folder)}: more than {MAX_NAMES} files")
    return names
