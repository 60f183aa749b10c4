"""Discs for tests: what makes them, of which trees, and what our reader and blkid say of one."""

import os
from pathlib import Path

import extimages
from diskimages import opened, run
from extimages import View

from undercroft.disks import formats
from undercroft.disks.detect import detect
from undercroft.disks.iso9660 import Iso9660

XORRISO = ("xorriso", "-as", "mkisofs", "-quiet")
GENISOIMAGE = ("genisoimage", "-quiet")
MAKERS = {
    "rock-ridge": (*XORRISO, "-R", "-V", "Debian 12 live"),
    "rock-ridge-joliet": (*XORRISO, "-R", "-J", "-joliet-long", "-V", "A_LABEL_THAT_IS_LONGER_THAN_16"),
    "deep-moved": (*GENISOIMAGE, "-R", "-V", "DEEP"),
    "joliet": (*GENISOIMAGE, "-input-charset", "utf-8", "-J", "-joliet-long", "-D", "-V", "Mixed Case Label"),
    "plain": (*GENISOIMAGE, "-iso-level", "1", "-D", "-V", "PLAIN"),
    "plain-4": (*GENISOIMAGE, "-iso-level", "4", "-D", "-V", "four"),
}


def make_tree(root: Path) -> Path:
    """Fill `root` with files of all kinds, but for what Rock Ridge or its makers cannot say.

    That is a slash at a target's end, a name that Linux cuts off, and links of 1,000 bytes, which genisoimage
    writes wrong.
    """
    extimages.make_tree(root)
    for name in ("link-60", "link-1000", f"names/{'x' * 255}"):
        (root / name).unlink()
    (root / "names" / ("z" * 240)).write_text("long")
    return root


def make_small_tree(root: Path) -> Path:
    """Fill `root` with files whose names differ within what Joliet and plain names have room for."""
    for number in range(200):
        path = root / f"dir{number % 5}" / f"f{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * number * 40)
    (root / "wide").mkdir()
    (root / "wide" / "ünï").write_text("wide")
    for path in root.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_001))
    (root / "noext").write_text("x")
    return root


def read(image: Path) -> View:
    """Return what our reader sees of a disc, which has the label and the UUID that blkid prints."""
    with opened(image) as source:
        content = detect(source)
        assert content.kind == "iso9660"
        filesystem = formats.open_filesystem(content, source)
        assert isinstance(filesystem, Iso9660)
        assert filesystem.problems == ()
        probed = [line.replace("\\", "") for line in run("blkid", "-p", "-o", "export", image).splitlines()]
        assert f"LABEL={content.label}" in probed
        assert f"UUID={content.uuid}" in probed
        assert (filesystem.label, filesystem.uuid) == (content.label, content.uuid)
        return extimages.see_image(filesystem)  # type: ignore[arg-type] # the same protocol
