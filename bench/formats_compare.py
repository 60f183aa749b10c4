"""Who reads which format right, wrong, or not: small images of each, the same files in all of them.

    python bench/formats_compare.py [--guestfs] [--keep FILE] [--limit SECONDS] [NAME...]

As root (loop mounts, in mount namespaces of its own). Each tool is asked for the content of every file, in a
process of its own with a time limit, and its digests are compared with those of what was written:

    right    every file, byte for byte
    wrong    it said nothing, and a file was missing or held something else
    part     it read some files right, and said that it could not read the others
    no       it could not open the image, and said so, or found no file at all

With --guestfs guestfish is asked for the files, and virt-inspector for the packages, in an appliance for each
image, under TCG without KVM: a minute each. Keep the answers (--keep), and a run that is cut off goes on.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import btrfsimages  # noqa: E402 - what the tests have
import containerimages  # noqa: E402
import diskimages  # noqa: E402
import exfatimages  # noqa: E402
import extimages  # noqa: E402
import guestfsanswers  # noqa: E402
import luksimages  # noqa: E402
import lvmmaker  # noqa: E402
import ufsimages  # noqa: E402
import xfsimages  # noqa: E402
from diskimages import run, wrap_gpt  # noqa: E402
from machineimages import debian_tree, make_filesystem, packages  # noqa: E402

PEERS = Path(__file__).resolve().parent / "peers"
TOOLS = {
    "undercroft": [sys.executable, str(PEERS / "undercroft_read.py")],
    "pytsk3": [sys.executable, str(PEERS / "tsk_read.py")],
    "dissect": [sys.executable, str(PEERS / "dissect_read.py")],
}
GUESTFISH, INSPECTOR = "guestfish", "virt-inspector"
PACKAGES = 20
SIZE_BYTES = 320 << 20
LIMIT_S = 240
MISSING = "missing"
"""What a peer says of a file that is not there, in its words."""

APPLIANCE_LIMIT_S = 600
"""Of one question; without KVM one takes half a minute on an idle machine."""

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


def main():
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME", help="of a format, as the table has it")
    arguments.add_argument("--guestfs", action="store_true", help="ask guestfish and virt-inspector too")
    arguments.add_argument("--keep", type=Path, help="where each answer goes as it comes; those in it stand")
    arguments.add_argument("--limit", type=int, default=APPLIANCE_LIMIT_S, help="seconds for an appliance")
    asked = arguments.parse_args()
    tools = dict(TOOLS)
    if asked.guestfs and (why := guestfsanswers.missing()):
        print(f"guestfish and virt-inspector are not asked: {why}", file=sys.stderr)
    elif asked.guestfs:
        tools |= {GUESTFISH: None, INSPECTOR: None}
    answers = Answers(asked.keep)
    with tempfile.TemporaryDirectory() as folder:
        images = Images(Path(folder))
        for name, make in images.makers().items():
            if asked.names and name not in asked.names:
                continue
            if all((name, tool) in answers.known for tool in tools):
                continue
            path = _made(name, make)
            for tool in tools:
                if (name, tool) not in answers.known:
                    answers.add(name, tool, *_asked(images, name, path, tool, asked.limit))
    _print_table(
        answers.known, [name for name in images.makers() if (name, "undercroft") in answers.known], tools
    )


class Answers:
    """What was answered: (format, tool) -> (word, why); kept in a file as it comes, where one is given."""

    def __init__(self, path):
        self._path = path
        self.known = {}
        if path and path.exists():
            for line in path.read_text().splitlines():
                name, tool, word, why = json.loads(line)
                self.known[name, tool] = word, why

    def add(self, name, tool, word, why):
        """Note an answer."""
        self.known[name, tool] = word, why
        if self._path:
            with self._path.open("a") as file:
                file.write(json.dumps([name, tool, word, why]) + "\n")
        print(f"{name}, {tool}: {word} {why}", file=sys.stderr, flush=True)


def _print_table(known, names, tools):
    print(f"{datetime.now(UTC):%Y-%m-%d}\n")
    print(f"| | {' | '.join(tools)} |\n|---|{'---|' * len(tools)}")
    for name in names:
        print(f"| {name} | {' | '.join(known[name, tool][0] for tool in tools)} |")


def _made(name, make):
    try:
        return make()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"{name}: could not be made here: {str(error)[-300:]}", file=sys.stderr)
        return None


def _asked(images, name, path, tool, limit_s):
    """Return (word, why) for one tool and image."""
    if path is None:
        return "not made", ""
    wanted = images.expected(name)
    try:
        if tool == GUESTFISH:
            return _judged(
                guestfsanswers.digests(_for_guestfs(name, path), list(wanted), limit_s=limit_s), wanted
            )
        if tool == INSPECTOR:
            return _judged_packages(guestfsanswers.packages(_for_guestfs(name, path), limit_s=limit_s))
    except TimeoutError as error:
        return str(error), ""
    except OSError as error:
        return "no", str(error)
    try:
        done = subprocess.run(
            [*TOOLS[tool], str(path), luksimages.PASSPHRASE.decode(), *_parts(path)],
            input="\0".join(wanted),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "no", f"not done after {LIMIT_S} s"
    last = (done.stdout.splitlines() or [""])[-1]
    if done.returncode or not last.startswith("{"):
        return "no", (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
    return _judged(json.loads(last), wanted)


def _judged(answer, wanted):
    """Return (word, why): what a tool said of each file, a digest or "!" and its error."""
    errors = {path: said for path, said in answer.items() if said.startswith("!")}
    right = sum(answer.get(path) == digest for path, digest in wanted.items())
    silent = [path for path, digest in wanted.items() if path not in errors and answer.get(path) != digest]
    if right == len(wanted):
        return "right", ""
    if not errors and not any(said != MISSING for said in answer.values()):
        return "no", "it has none of the files"
    if silent:
        return "wrong", f"{len(silent)} of {len(wanted)} files, such as {silent[0]}"
    first = next(iter(errors.items()))
    return ("part" if right else "no"), f"{right} of {len(wanted)} files; {first[0]}: {first[1][1:200]}"


def _parts(path):
    """Return further files that an image lies in."""
    return sorted(str(other) for other in path.parent.glob(f"{path.stem}-*.vmdk") if path.suffix == ".vmdk")


def _for_guestfs(name, path):
    device = "/dev/vg/root" if "LVM" in name else "/dev/sda1"
    options = "ro,nouuid" if "XFS" in name else "ro"
    secret = luksimages.PASSPHRASE.decode() if "LUKS" in name else ""
    return guestfsanswers.Asked(path, _format(path), device, secret, options)


def _judged_packages(found):
    """Return (word, why) for a list of packages."""
    wanted = {(package.name, package.version) for package in packages(PACKAGES)}
    if found == wanted:
        return "right", ""
    return (
        ("wrong", f"{len(found & wanted)} of {len(wanted)} packages")
        if found
        else ("no", "it has no package")
    )


def _format(path):
    return {"raw": "raw", "qcow2": "qcow2", "vhd": "vpc"}.get(path.suffix[1:], path.suffix[1:])


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


if __name__ == "__main__":
    main()
