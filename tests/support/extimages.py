"""ext2/3/4 images for tests, and what the tools of e2fsprogs and the kernel say of them.

Views are dictionaries from path to `Seen`; two views are equal when the trees are.
"""

import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from undercroft.disks import ext4
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import DescriptorSource

JOURNAL_MAGIC = bytes.fromhex("c03b3998")
ROOT_INODE = 2


class Seen(NamedTuple):
    """One file as some reader sees it; `content` is the sha256, or a symlink's target."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    content: str


View = dict[str, Seen]

SEE_PROGRAM = f"""
import json, pathlib, sys
sys.path.extend(({str(Path(__file__).parent)!r}, {str(Path(ext4.__file__).parents[3])!r}))
import extimages
print(json.dumps(extimages.see_tree(pathlib.Path('.'))))
"""


def run(*command: str | Path, check: bool = True, stdin: str = "", **environment: str) -> str:
    """Run a tool and return its output; AssertionError with all of it where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", **environment},
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def make(image: Path, *options: str, size: str = "24M", tree: Path | None = None) -> Path:
    """Make a filesystem with mke2fs, from the files of `tree` where one is given."""
    image.unlink(missing_ok=True)
    run("mke2fs", "-q", "-F", *options, *(("-d", tree) if tree else ()), image, size)
    return image


def make_tree(root: Path, seed: int = 1) -> Path:
    """Fill `root` with files of all kinds and of sizes around every limit of the format."""
    rng = random.Random(seed)
    root.mkdir()
    for size in (0, 1, 59, 60, 61, 100, 155, 156, 157, 1023, 1024, 1025, 4095, 4096, 4097, 12 << 10, 70_000):
        (root / f"size-{size}").write_bytes(rng.randbytes(size))
    (root / "large").write_bytes(rng.randbytes(1_300_000))
    _sparse(root / "sparse", 3 << 20, (0, 40_960, 1_000_003, (3 << 20) - 5))
    deep = root
    for number in range(12):
        deep = deep / f"level-{number}"
        deep.mkdir()
        (deep / "leaf").write_text(f"at level {number}\n")
    many = root / "many"
    many.mkdir()
    for number in range(700):
        (many / f"{'a' * (number % 200)}-{number}").write_bytes(b"%d" % number)
    names = root / "names"
    names.mkdir()
    for name in (b"\xff\xfe undecodable", b"new\nline", b" ", b"x" * 255, "ünï".encode()):
        Path(os.fsdecode(os.fsencode(names) + b"/" + name)).write_bytes(name)
    _links(root)
    (root / "small").mkdir()
    (root / "small" / "one").write_text("1")
    for path in (root / "size-100", root / "small"):
        os.utime(path, (1_000_000_000, 2_000_000_000), follow_symlinks=False)
    os.utime(root / "size-59", (0, -1_000_000))
    if os.geteuid() == 0:
        os.chown(root / "size-60", 70_000, 80_000)
    os.chmod(root / "size-61", 0o4751)
    return root


def _sparse(path: Path, size: int, places: tuple[int, ...]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for place in places:
            file.seek(place)
            file.write(b"here%")


def _links(root: Path) -> None:
    for length in (1, 59, 60, 61, 200, 1000):
        (root / f"link-{length}").symlink_to(("../" * 1400)[:length])
    os.link(root / "size-4097", root / "hard")
    os.mkfifo(root / "fifo")


def see_tree(root: Path) -> View:
    """Return what the host sees under `root`."""
    view: View = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            found = os.lstat(path)
            content = ""
            if stat.S_ISLNK(found.st_mode):
                content = os.readlink(os.fsdecode(path))  # noqa: PTH115 - names are bytes
            elif stat.S_ISREG(found.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
            relative = os.fsdecode(os.path.relpath(path, os.fsencode(root)))
            seconds = found.st_mtime_ns // 1_000_000_000
            view[relative] = Seen(found.st_mode, found.st_uid, found.st_gid, size, seconds, content)
    return view


def open_image(image: Path) -> ext4.Ext4:
    """Open an image with the reader under test. The descriptor stays open until the test's process ends."""
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    return ext4.open_filesystem(DescriptorSource(descriptor, os.fstat(descriptor).st_size))


def see_image(filesystem: ext4.Ext4) -> View:
    """Return what the reader under test sees, every directory entry looked up by name as well."""
    view: View = {}
    pending = [("", filesystem.root)]
    while pending:
        base, directory = pending.pop()
        for name, node, kind in filesystem.entries(directory):
            found = filesystem.stat(node)
            assert filesystem.lookup(directory, name) == node
            assert kind in (found.kind, FileKind.UNKNOWN)
            content = ""
            if found.kind is FileKind.SYMLINK:
                content = os.fsdecode(filesystem.readlink(node))
            elif found.kind is FileKind.REGULAR:
                digest = hashlib.sha256()
                for chunk in filesystem.chunks(node):
                    digest.update(chunk)
                content = digest.hexdigest()
            elif found.kind is FileKind.DIRECTORY:
                pending.append((f"{base}{os.fsdecode(name)}/", node))
            size = 0 if found.kind is FileKind.DIRECTORY else found.size_bytes
            seen = Seen(found.mode, found.uid, found.gid, size, found.modified_at_s, content)
            view[base + os.fsdecode(name)] = seen
    return view


@cache
def mounting_problem() -> str:
    """Return why images cannot be loop-mounted here, "" when they can."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "needs root and unshare(1) for loop mounts"
    with tempfile.TemporaryDirectory() as folder:
        image = make(Path(folder) / "probe", "-t", "ext4", size="4M")
        try:
            in_mount(image, "true")
        except AssertionError as error:
            return f"loop mounts do not work here: {error}"
    return ""


def in_mount(image: Path, script: str, options: str = "rw", **environment: str) -> str:
    """Mount `image` in a mount namespace of its own and run a shell script there.

    The script finds the mount in its working folder, the image in $IMAGE. The mount ends with it.
    """
    with tempfile.TemporaryDirectory() as point:
        body = f'set -e; mount -o loop,{options} "$IMAGE" "$POINT"; cd "$POINT"; {script}'
        return run("unshare", "-m", "sh", "-c", body, IMAGE=str(image), POINT=point, **environment)


def see_mounted(image: Path, options: str = "rw") -> View:
    """Return what the kernel sees in a copy of `image`, its journal replayed."""
    with copied(image) as copy:
        return parse_view(in_mount(copy, f'"{sys.executable}" -c "$PROGRAM"', options, PROGRAM=SEE_PROGRAM))


def parse_view(printed: str) -> View:
    """Return the view that SEE_PROGRAM printed on its last line."""
    return {path: Seen(*fields) for path, fields in json.loads(printed.splitlines()[-1]).items()}


@contextmanager
def copied(image: Path) -> Iterator[Path]:
    """Give a copy of `image` to work on."""
    with tempfile.TemporaryDirectory(dir=image.parent) as folder:
        copy = Path(folder) / image.name
        run("cp", "--sparse=always", image, copy)
        yield copy


def hide_journal(image: Path) -> None:
    """Clear the superblock's mark that the journal needs a replay, as if there were nothing in it."""
    with image.open("r+b") as file:
        file.seek(1024)
        superblock = bytearray(file.read(1024))
        superblock[96] &= ~4
        superblock[1020:] = (google_crc32c.value(bytes(superblock[:1020])) ^ 0xFFFFFFFF).to_bytes(4, "little")
        file.seek(1024)
        file.write(superblock)


def see_checked(image: Path) -> View:
    """Return what the reader under test sees in a copy that e2fsck repaired, its journal replayed."""
    with copied(image) as copy:
        run("e2fsck", "-fy", copy, check=False)
        filesystem = open_image(copy)
        assert not any("journal" in note for note in filesystem.notes)
        return see_image(filesystem)


def differences(left: View, right: View) -> list[str]:
    """Return what differs, "lost+found" aside, one line each; for messages of failed tests."""
    paths = sorted(left.keys() | right.keys())
    return [
        f"{path}: {left.get(path)} / {right.get(path)}"
        for path in paths
        if left.get(path) != right.get(path) and path != "lost+found"
    ]
