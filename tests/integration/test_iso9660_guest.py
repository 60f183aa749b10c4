"""The reader of ISO 9660 against a Linux guest's kernel: what it packs up of a disc is what we read."""

import hashlib
import subprocess
import tarfile
from pathlib import Path

import extimages
import guests
import pytest
from diskimages import run
from extimages import Seen, View, differences
from isoimages import MAKERS, make_small_tree, make_tree, read

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(bool(guests.missing()), reason=guests.missing() or "guests can be run"),
    pytest.mark.skipif(bool(extimages.mounting_problem()), reason=extimages.mounting_problem() or "root"),
    pytest.mark.xdist_group("guests with discs"),
]

MODULES = ("virtio_pci", "virtio_blk", "isofs", "nls_utf8")
ARCHIVE_MIB = 24
WORKLOAD = f"""
mount -t iso9660 -o ro,iocharset=utf8 /dev/vda /mnt && cd /mnt || exit
tar -cf - . | dd of=/dev/vda bs=1M seek={ARCHIVE_MIB} conv=fsync && echo PACKED
"""


def packed(image: Path) -> View:
    """Return what a guest's tar saw of the disc, which it wrote behind it."""
    view: View = {}
    with image.open("rb") as file, tarfile.open(fileobj=_behind(file), errors="surrogateescape") as archive:
        for member in archive:
            content, size = member.linkname if member.issym() else "", member.size
            kind = {tarfile.DIRTYPE: 0o040000, tarfile.SYMTYPE: 0o120000, tarfile.FIFOTYPE: 0o010000}
            if member.isfile() or member.islnk():
                data = archive.extractfile(member)
                assert data is not None
                body = data.read()
                content, size = hashlib.sha256(body).hexdigest(), len(body)
            size = len(content.encode("utf-8", "surrogateescape")) if member.issym() else size
            mode = kind.get(member.type, 0o100000) | member.mode
            name = member.name.removeprefix("./")
            view[name] = Seen(mode, member.uid, member.gid, size, int(member.mtime), content)
    view.pop(".", None)
    return view


def _behind(file):  # type: ignore[no-untyped-def] # a file, at its archive
    file.seek(ARCHIVE_MIB << 20)
    return file


@pytest.mark.parametrize("kind", MAKERS)
def test_every_file_equals_what_a_guests_kernel_shows(kind: str, tmp_path: Path) -> None:
    disc, disk = tmp_path / "disc.iso", tmp_path / "disk.qcow2"
    make = make_tree if "-R" in MAKERS[kind] else make_small_tree
    run(*MAKERS[kind], "-o", disc, make(tmp_path / "tree"))
    # The guest's tar has no times before 1970; test_iso9660_oracles holds them against the tree's.
    found = {path: seen._replace(mtime=max(0, seen.mtime)) for path, seen in read(disc).items()}
    assert disc.stat().st_size < ARCHIVE_MIB << 20
    with disc.open("r+b") as file:
        file.truncate(4 * ARCHIVE_MIB << 20)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disc, disk], check=True)
    boot = guests.with_workload(guests.boot_files("-disc", MODULES), WORKLOAD, tmp_path)
    with guests.running(boot, disk, tmp_path / "serial") as guest:
        guests.wait_for(guest.serial, "PACKED", 240)
        guests.wait_for(guest.serial, "GUEST-DONE", 60)
        guest.process.wait(60)
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, disc], check=True)
    assert differences(found, packed(disc)) == []
