"""What a reader's child can do: the only code that touches bytes which a guest or an image wrote.

Each job takes arguments that the host wrote (checked against `model.job` all the same) and descriptors,
and gives JSON that the host checks against `model` again. Paths in a guest travel surrogate-escaped.

    inspect    {image: LayerInput}                         -> ImageInfo
    unlock     {disks: [DiskInput], keys: KeysInput}       -> Unlocked
    inventory  {disks: [DiskInput], subvolume?: SubvolumeInput} -> Inventory
    guest_snapshots {disks: [DiskInput]}                   -> [GuestSnapshot]
    reading    {disks: [DiskInput]}                        -> ProvenInventory
    replay     {disks: [DiskInput], sets: [ProvenReads]} -> Replayed
    survey     {images: [LayerInput]}                      -> [Looked]
    compare    {disks: [DiskInput], sets: [ProvenReads], packages: digest} -> Compared
    credentials {disks: [DiskInput]}                       -> ProvenCredentials
    entries    {disks: [DiskInput], path}                  -> [FileEntry]
    content    {disks: [DiskInput], path}                  -> stream of the file's bytes

Each job with disks takes keys: KeysInput too, where there are any. Those that record or prove reads take
readers: str, which readers the host says that these are.
"""

# A child cannot open files, so what the readers import at first use has to be loaded before the fork.
import hashlib  # noqa: F401
import hmac  # noqa: F401
import os
import unicodedata  # noqa: F401
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from undercroft.disks import formats, stack
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.fingerprint import fingerprint
from undercroft.disks.machine import open_machine
from undercroft.disks.readset import Recorder, replay_sets
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError, UnsupportedError
from undercroft.inventory.collect import collect
from undercroft.inventory.credentials import read_credentials
from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.job import (
    DiskInput,
    ExtentInput,
    FileEntry,
    KeyInput,
    KeysInput,
    LayerInput,
    ProvenCredentials,
    ProvenInventory,
    ProvenReads,
    Refusal,
    Replayed,
    SubvolumeInput,
    Unlocked,
    VolumeKey,
)
from undercroft.model.looks import Compared, Looked, packages_digest
from undercroft.model.schema import Json, decode, decode_list, encode
from undercroft.sandbox.context import JobContext
from undercroft.sandbox.jobdisks import disks_of, inspected, looked
from undercroft.sandbox.jobkeys import keys_of, load_for_keys, unlocked

MAX_LISTED_ENTRIES = 100_000

formats.load()
stack.load()


def inspect(context: JobContext) -> Json:
    """Return the ImageInfo of one image; its format is probed where the host gives none."""
    layer = decode(LayerInput, context.arguments.get("image"), "image")
    return encode(inspected(layer, context.descriptors))


def survey(context: JobContext) -> Json:
    """Return a first look at each of several images; what is wrong with one is said of that one."""
    layers = decode_list(LayerInput, context.arguments.get("images"), "images")
    return [encode(looked(layer, context.descriptors)) for layer in layers]


def compare(context: JobContext) -> Json:
    """Return what the one disk's top image says of itself, and its inventory where no set of reads proves it.

    Packages whose digest the host names are left away.
    """
    (disk,) = decode_list(DiskInput, context.arguments.get("disks"), "disks")
    sets = decode_list(ProvenReads, context.arguments.get("sets"), "sets")
    info = inspected(replace(disk.layers[0], format=None), context.descriptors)
    disks = disks_of(context)
    digests = replay_sets(disks, sets, _readers(context))
    if any(digest == known.digest for digest, known in zip(digests, sets, strict=False)):
        return encode(Compared(info, digests))
    recorder = Recorder(disks, _readers(context))
    found = collect(open_machine(recorder.disks))
    same = packages_digest(found.packages) == context.arguments.get("packages")
    found = replace(found, packages=()) if same else found
    return encode(Compared(info, digests, ProvenInventory(found, recorder.finish(), None), same))


def inventory(context: JobContext) -> Json:
    """Return the Inventory of one state of a machine."""
    keys = keys_of(context)
    return encode(collect(open_machine(disks_of(context, keys), keys=keys, subvolume=_subvolume(context))))


def guest_snapshots(context: JobContext) -> Json:
    """Return the snapshots that the guest took of its root, a list of GuestSnapshot."""
    keys = keys_of(context)
    return encode(list(open_machine(disks_of(context, keys), keys=keys).snapshots))


def unlock(context: JobContext) -> Json:
    """Return the own keys of the encrypted volumes that the job's passphrases open."""
    keys = keys_of(context)
    return encode(unlocked(disks_of(context, keys), keys))


def reading(context: JobContext) -> Json:
    """Return the Inventory of one state of a machine with what proves it, and the disks' fingerprint."""
    keys = keys_of(context)
    disks = disks_of(context, keys)
    recorder = Recorder(disks, _readers(context))
    found = collect(open_machine(recorder.disks, keys=keys))
    return encode(ProvenInventory(found, recorder.finish(), fingerprint(disks)))


def replay(context: JobContext) -> Json:
    """Read recorded ranges of a machine again, until one set is found to be what it was."""
    disks = disks_of(context)
    sets = decode_list(ProvenReads, context.arguments.get("sets"), "sets")
    return encode(Replayed(replay_sets(disks, sets, _readers(context)), fingerprint(disks)))


def credentials(context: JobContext) -> Json:
    """Return the Credentials of one state of a machine with what proves them."""
    keys = keys_of(context)
    recorder = Recorder(disks_of(context, keys), _readers(context))
    found = read_credentials(open_machine(recorder.disks, keys=keys))
    return encode(ProvenCredentials(found, recorder.finish()))


def entries(context: JobContext) -> Json:
    """Return the directory at `path` (or the one file) as a list of FileEntry, sorted by name."""
    tree = _tree(context)
    path = _path(context)
    stat = tree.stat(path, follow=path.endswith(b"/"))
    if stat.kind is not FileKind.DIRECTORY:
        return [encode(_entry(tree, path, os.path.basename(path), stat))]
    listed = []
    for entry in tree.entries(path):
        listed.append(entry)
        if len(listed) > MAX_LISTED_ENTRIES:
            raise InputError(f"{_text(path)!r}: more than {MAX_LISTED_ENTRIES} entries; name one of them")
    listed.sort(key=lambda entry: entry.name)
    return [
        encode(_entry(tree, os.path.join(path, entry.name), entry.name, tree.stat_entry(entry)))
        for entry in listed
    ]


def content(context: JobContext) -> Iterator[bytes]:
    """Yield the bytes of the regular file at `path`."""
    tree = _tree(context)
    path = _path(context)
    kind = tree.stat(path).kind
    if kind is not FileKind.REGULAR:
        raise InputError(f"{_text(path)!r} is a {kind.name.lower()}, not a regular file")
    yield from tree.chunks(path)


def _tree(context: JobContext) -> GuestTree:
    keys = keys_of(context)
    machine = open_machine(disks_of(context, keys), keys=keys, subvolume=_subvolume(context))
    if machine.tree is None:
        raise UnsupportedError("; ".join(machine.coverage.problems) or "no root filesystem was found")
    return machine.tree


def _subvolume(context: JobContext) -> SubvolumeInput | None:
    asked = context.arguments.get("subvolume")
    return None if asked is None else decode(SubvolumeInput, asked, "subvolume")


def _readers(context: JobContext) -> str:
    return str(context.arguments.get("readers", ""))


def _path(context: JobContext) -> bytes:
    path = context.arguments.get("path")
    if not isinstance(path, str) or not path.startswith("/"):
        raise NotFoundError(f"{path!r} is no absolute path in the guest")
    return path.encode("utf-8", "surrogateescape")


def _entry(tree: GuestTree, path: bytes, name: bytes, stat: FileStat) -> FileEntry:
    target = _text(tree.readlink(path)) if stat.kind is FileKind.SYMLINK else ""
    return FileEntry(
        name=_text(name),
        kind=stat.kind.name.lower(),
        mode=stat.mode,
        size_bytes=stat.size_bytes,
        uid=stat.uid,
        gid=stat.gid,
        modified_at_s=stat.modified_at_s,
        target=target,
    )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def prepare(arguments: Mapping[str, Json]) -> None:
    """Import what the job needs and few need; in the warm process, on the host's own arguments."""
    _compiled()
    if arguments.get("keys"):
        load_for_keys()
    disks = arguments.get("disks")
    if not isinstance(disks, list):
        return
    layers = [layer for disk in decode_list(DiskInput, disks, "disks") for layer in disk.layers]
    if any(layer.zstd for layer in layers):
        import zstandard  # noqa: F401, PLC0415 - 10 ms, for images with zstd clusters only


@cache
def _compiled() -> None:
    """Have what checks and writes values compiled once, on values of its own, and not in every child."""
    layer = LayerInput("", 0, 0, None, extents=(ExtentInput("", 0, 0),))
    decode_list(DiskInput, [encode(DiskInput("", (layer,)))])
    decode_list(ProvenReads, [encode(ProvenReads((), (), ""))])
    decode(LayerInput, encode(layer))
    encode(ImageInfo(DiskFormat.RAW, 0))
    encode(Replayed((), None))
    encode(Looked(ImageInfo(DiskFormat.RAW, 0)))
    encode(Compared(ImageInfo(DiskFormat.RAW, 0), ()))
    decode(KeysInput, encode(KeysInput((KeyInput("", 0, 0, 0),), (Refusal("", ""),))))
    encode(Unlocked((VolumeKey("", ""),), ()))


JOBS: Mapping[str, Callable[[JobContext], Json]] = {
    "inspect": inspect,
    "unlock": unlock,
    "inventory": inventory,
    "guest_snapshots": guest_snapshots,
    "reading": reading,
    "replay": replay,
    "survey": survey,
    "compare": compare,
    "credentials": credentials,
    "entries": entries,
}
STREAMS: Mapping[str, Callable[[JobContext], Iterator[bytes]]] = {"content": content}
