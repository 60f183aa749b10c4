"""Images for the comparison of formats: the same files in each filesystem, set of volumes and container.

Made by the formats' own tools, as root (loop mounts, in mount namespaces of their own).
"""

import hashlib
import random
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import btrfsimages  # noqa: E402 - what the tests have
import containerimages  # noqa: E402
import diskimages  # noqa: E402
import exfatimages  # noqa: E402
import extimages  # noqa: E402
import luksimages  # noqa: E402
import lvmmaker  # noqa: E402
import ufsimages  # noqa: E402
import xfsimages  # noqa: E402
from diskimages import run, wrap_gpt  # noqa: E402
from machineimages import debian_tree, make_filesystem, packages  # noqa: E402

SIZE_BYTES = 320 << 20
PACKAGES = 20
PASSPHRASE = luksimages.PASSPHRASE.decode()

FILL = r"""
import shutil, sys
shutil.copytree(sys.argv[1], ".", symlinks=True, dirs_exist_ok=True)
"""
LATE = r"""
import os
for number in range(30):
    with open(f"srv/late{number:02}", "wb") as file:
        file.write(b"late %d " % number * 3000)
        file.flush()
        os.fsync(file.fileno())
"""
"""What a guest wrote and fsynced right before it was cut off: it lies in the log alone."""


class Images:
    """The images, made in a folder. Each is a function that returns the image's path."""

    def __init__(self, folder):
        self._folder = folder
        self.tree = _tree(folder / "tree")
        self._kept = {}

    def makers(self) -> dict[str, Callable[[], Path]]:
        """Return how each image is made, by what it is called in the table."""
        return {
            "ext4": self._ext4,
            "ext4, dirty journal": lambda: self._disk("ext4-dirty", self._dirty_ext4),
            "XFS": lambda: self._disk("xfs", lambda: xfsimages.write(self._xfs("xfs"), FILL, str(self.tree))),
            "XFS version 4": lambda: self._disk("xfs4", self._xfs4),
            "XFS, dirty log": lambda: self._disk("xfs-dirty", self._dirty_xfs),
            "btrfs": lambda: self._disk("btrfs", lambda: self._btrfs("btrfs")),
            "btrfs, zstd": lambda: self._disk(
                "btrfs-zstd", lambda: self._btrfs("zstd", "compress-force=zstd")
            ),
            "btrfs, lzo": lambda: self._disk("btrfs-lzo", lambda: self._btrfs("lzo", "compress-force=lzo")),
            "btrfs, log tree": lambda: self._disk("btrfs-dirty", self._dirty_btrfs),
            "squashfs": lambda: self._disk("squashfs", self._squashfs),
            "NTFS": lambda: self._disk("ntfs", lambda: self._copied("ntfs", "mkntfs", "-q", "-F")),
            "FAT32": lambda: self._disk("fat", lambda: self._copied("fat", "mkfs.vfat", "-F", "32")),
            "exFAT": lambda: self._disk("exfat", lambda: self._copied("exfat", "mkfs.exfat")),
            "UFS1": lambda: self._disk("ufs1", lambda: self._ufs(1)),
            "UFS2": lambda: self._disk("ufs2", lambda: self._ufs(2)),
            "ext4 in LVM": lambda: self._disk("lvm", self._lvm),
            "ext4 in LUKS2": lambda: self._luks("luks2", luksimages.encrypted2),
            "ext4 in LUKS1": lambda: self._luks("luks1", luksimages.encrypted1),
            **{
                f"{kind} ({options.get('subformat', 'dynamic')})": lambda kind=kind: self._container(kind)
                for kind, (_format, options) in containerimages.QEMU_IMAGES.items()
                if kind in {"vmdk", "vmdk-flat", "vmdk-split", "vmdk-stream", "vhd", "vhdx", "vdi"}
            },
            "qcow2": lambda: self._converted("qcow2", "qcow2"),
            "qcow2, zstd": lambda: self._converted(
                "qcow2-zstd", "qcow2", "-c", "-o", "compression_type=zstd"
            ),
        }

    def expected(self, name):
        """Return what each file holds: path -> SHA-256."""
        wanted = {
            str(path.relative_to(self.tree)): _digest(path.read_bytes())
            for path in sorted(self.tree.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        if name.endswith((", dirty log", ", log tree", ", dirty journal")):
            late = {f"srv/late{number:02}": _digest(b"late %d " % number * 3000) for number in range(30)}
            wanted.update(late)
        return wanted

    def _ext4(self):
        return self._disk(
            "ext4", lambda: make_filesystem(self.tree, self._folder / "ext4.fs", size_bytes=96 << 20)
        )

    def _dirty_ext4(self):
        image = make_filesystem(self.tree, self._folder / "dirty.fs", size_bytes=96 << 20)
        copy = self._folder / "dirty.copy"
        script = f'"{sys.executable}" -c "$PROGRAM"; cp --sparse=always "$IMAGE" "{copy}"'
        extimages.in_mount(image, script, PROGRAM=LATE)
        return copy

    def _xfs(self, name):
        return xfsimages.make(self._folder / f"{name}.fs", size=str(SIZE_BYTES))

    def _xfs4(self):
        return xfsimages.make_v4(self._folder / "xfs4.fs", self.tree, size=str(SIZE_BYTES))

    def _dirty_xfs(self):
        image = xfsimages.write(self._xfs("xfs-dirty"), FILL, str(self.tree))
        return xfsimages.dirty(image, LATE)

    def _btrfs(self, name, *options):
        images = btrfsimages.make(self._folder, size_mib=SIZE_BYTES >> 20, name=f"{name}.fs")
        btrfsimages.write(images, FILL, ",".join(("rw", *options)), str(self.tree))
        return images[0]

    def _dirty_btrfs(self):
        images = [self._btrfs("btrfs-log")]
        return btrfsimages.write_dirty(images, LATE)[0]

    def _squashfs(self):
        image = self._folder / "squashfs.fs"
        run("mksquashfs", self.tree, image, "-quiet", "-no-progress", "-comp", "zstd")
        return image

    def _ufs(self, version):
        image = self._folder / f"ufs{version}.fs"
        if version == 1:
            return ufsimages.make(self.tree, image, "version=1", 96 << 20)
        made = ufsimages.make(self.tree, image, "version=2,bsize=65536,fsize=8192", 96 << 20)
        made.write_bytes(ufsimages.as_newfs(made.read_bytes()))  # where FreeBSD's newfs puts the superblock
        return made

    def _copied(self, name, *maker):
        """Make a filesystem without links and copy the tree into it, links as what they lead to."""
        image = diskimages.make_raw(self._folder / f"{name}.fs", 96 << 20)
        run(*maker, image)
        if name == "fat":
            run("mcopy", "-s", "-i", image, *(path for path in sorted(self.tree.iterdir())), "::/")
            return image
        mount = {"ntfs": "ntfs-3g -o no_detach", "exfat": "mount.exfat-fuse -d"}[name]
        return exfatimages.fill(image, f"cp -rL '{self.tree}/.' .", mount)

    def _lvm(self):
        plain = make_filesystem(self.tree, self._folder / "lvm.plain", size_bytes=96 << 20)
        volume = self._folder / "lvm.fs"
        volume.write_bytes(lvmmaker.physical_volume({"root": plain.read_bytes()}))
        return volume

    def _luks(self, name, encrypted):
        plain = make_filesystem(self.tree, self._folder / f"{name}.plain", size_bytes=96 << 20)
        return self._disk(name, lambda: encrypted(plain, self._folder / f"{name}.fs"))

    def _container(self, kind):
        return containerimages.make(
            kind, self._kept_ext4(), self._folder / f"{kind}.{containerimages.suffix(kind)}"
        )

    def _converted(self, name, image_format, *options):
        image = self._folder / f"{name}.{image_format}"
        run("qemu-img", "convert", "-f", "raw", "-O", image_format, *options, self._kept_ext4(), image)
        return image

    def _kept_ext4(self):
        if "ext4" not in self._kept:
            self._kept["ext4"] = self._folder / "ext4.raw"
            if not self._kept["ext4"].exists():
                self._ext4()
        return self._kept["ext4"]

    def _disk(self, name, make):
        """Put a filesystem into the one partition of a disk."""
        return wrap_gpt(self._folder / f"{name}.raw", [make()])


def _tree(folder):
    """Fill a folder with what a machine has, and with files of all shapes."""
    numbers = random.Random(7)
    text = b"a line that repeats itself, as most texts do\n"
    extra = {
        "srv/random.bin": numbers.randbytes(700_001),
        "srv/text.log": text * 30_000,
        "srv/empty": b"",
        "usr/bin/true": b"a program",
        "srv/inline": b"few bytes",
        "srv/deep/er/and/deeper/still/file": b"x" * 5000,
        "srv/" + "n" * 200: b"a long name",
        **{f"srv/many/file{number:04}": b"%d" % number for number in range(300)},
    }
    debian_tree(folder, packages(PACKAGES), extra)
    with (folder / "srv/sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"the end")
    (folder / "srv/link").symlink_to("random.bin")
    (folder / "bin").symlink_to("usr/bin")  # virt-inspector takes nothing else for a system
    return folder


def _digest(data):
    return hashlib.sha256(data).hexdigest()
