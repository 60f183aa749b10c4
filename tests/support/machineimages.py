"""Whole machines for tests: a small Debian tree, its filesystem, its partitions, its image, its snapshots.

Everything is made by the tools that users have (mke2fs, sgdisk, qemu-img), without mounts and without root.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diskimages import MIB, make_qcow2, run, take_snapshot, wrap_gpt, wrap_mbr

ROOT_UUID = "6e9a1c52-0b5e-4d6f-9a3c-1f2d3e4c5b6a"


@dataclass(frozen=True)
class DebPackage:
    """One stanza of a dpkg status file."""

    name: str
    version: str
    source: str = ""
    architecture: str = "amd64"

    def stanza(self) -> str:
        """Return it as dpkg writes it."""
        source = f"Source: {self.source}\n" if self.source else ""
        return (
            f"Package: {self.name}\nStatus: install ok installed\nPriority: optional\nSection: misc\n"
            f"Installed-Size: 10\nMaintainer: Nobody <no@example.org>\nArchitecture: {self.architecture}\n"
            f"{source}Version: {self.version}\nDescription: {self.name}\n a package\n"
        )


def packages(count: int, version: str = "1.0-1") -> list[DebPackage]:
    """Return `count` packages with names of their own."""
    return [DebPackage(f"pkg{number:04}", version) for number in range(count)]


def debian_tree(
    folder: Path, installed: Sequence[DebPackage], extra: Mapping[str, bytes] | None = None
) -> Path:
    """Fill `folder` with what a scan of a Debian 12 machine reads, and the files of `extra`."""
    files = {
        "usr/lib/os-release": b'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
        b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "etc/hostname": b"web01\n",
        "etc/fstab": f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n".encode(),
        "var/lib/dpkg/status": "".join(f"{package.stanza()}\n" for package in installed).encode(),
        "boot/vmlinuz-6.1.0-28-amd64": b"kernel",
        **(extra or {}),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "etc/os-release").symlink_to("../usr/lib/os-release")
    return folder


def make_filesystem(tree: Path, path: Path, *options: str, size_bytes: int = 24 * MIB) -> Path:
    """Make a filesystem image of `tree`; `options` go to mke2fs (default: ext4 as it comes)."""
    path.unlink(missing_ok=True)
    with path.open("wb") as image:
        image.truncate(size_bytes)
    run("mke2fs", "-q", "-F", "-U", ROOT_UUID, *(options or ("-t", "ext4")), "-d", tree, path)
    return path


def make_machine(
    path: Path,
    states: Sequence[tuple[str, Path]],
    *filesystem_options: str,
    table: str = "gpt",
    qcow2_options: Mapping[str, str | int] | None = None,
    compressed: bool = False,
    size_bytes: int = 24 * MIB,
) -> Path:
    """Make a qcow2 machine with one internal snapshot for each of `states` but the last, the current one.

    Args:
        path: where the image goes.
        states: (snapshot name, tree) in order of time.
        filesystem_options: for mke2fs.
        table: "gpt" or "mbr" (then the root lies on a logical partition).
        qcow2_options: for qemu-img (-o).
        compressed: write compressed clusters.
        size_bytes: of the filesystem.
    """
    raw = path.with_suffix(".raw")
    for number, (_name, tree) in enumerate(states):
        filesystem = make_filesystem(
            tree, path.with_suffix(".fs"), *filesystem_options, size_bytes=size_bytes
        )
        if table == "gpt":
            wrap_gpt(raw, [filesystem])
        else:
            wrap_mbr(raw, [filesystem], logical=1)
        if number == 0:
            make_qcow2(raw, path, options=qcow2_options, compressed=compressed)
        else:
            run("qemu-img", "convert", "-n", "-O", "qcow2", raw, path)
        if number < len(states) - 1:
            take_snapshot(path, states[number][0])
        filesystem.unlink()
        raw.unlink()
    return path
