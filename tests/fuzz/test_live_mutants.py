"""Damaged live images go the product's own way: no crash, no hang, few lies."""

import struct
from pathlib import Path

import pytest
from campaign import CRASH, INCOMPLETE, REFUSED, WRONG, run_campaign, table
from diskimages import run
from machineimages import debian_tree, packages
from mutants import Family

from undercroft.usecases.session import start_reader

MAX_WRONG_SHARE = 0.05
SECTOR_BYTES = 2048


def live_families(folder: Path) -> list[Family]:
    """Make a live image of two layers for each kind of metadata that is damaged: the disc's, the images'."""
    medium = folder / "medium"
    (medium / "live").mkdir(parents=True)
    old = debian_tree(folder / "old", packages(30, "1.0-1"), {"etc/fstab": b""})
    new = debian_tree(folder / "new", packages(30, "1.0-2"), {"etc/fstab": b""})
    for name, tree in (("a", old), ("b", new)):
        options = ("-quiet", "-no-progress", "-processors", "1", "-comp", "gzip", "-b", "4096")
        run("mksquashfs", tree, medium / f"live/{name}.squashfs", *options)
    disc = folder / "live.iso"
    run("xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", disc, medium)
    image = disc.read_bytes()
    starts = [place for place in range(0, len(image), SECTOR_BYTES) if image.startswith(b"hsqs", place)]
    first = min(starts)
    used = [
        (place, SECTOR_BYTES)
        for place in range(16 * SECTOR_BYTES, first, SECTOR_BYTES)
        if any(image[place : place + SECTOR_BYTES])
    ]
    areas = []
    for start in starts:
        table_place, size = (struct.unpack_from("<Q", image, start + offset)[0] for offset in (64, 40))
        areas += [(start, 96), (start + table_place, size - table_place)]
    return [Family("live-disc", image, tuple(used), "raw"), Family("live-layers", image, tuple(areas), "raw")]


def check(count: int, folder: Path) -> None:
    reader = start_reader()
    try:
        tallies = run_campaign(live_families(folder), count, 1, reader, folder)
    finally:
        reader.close()
    crashes = [crash for tally in tallies.values() for crash in tally.crashes]
    assert not crashes, "\n".join(crashes)
    outcomes = sum((tally.outcomes for tally in tallies.values()), type(tallies["live-disc"].outcomes)())
    assert outcomes.total() == count
    assert not outcomes[CRASH]
    assert outcomes[WRONG] <= MAX_WRONG_SHARE * count, table(tallies)
    assert outcomes[REFUSED] + outcomes[INCOMPLETE] > 0.2 * count, table(tallies)
    print(table(tallies))  # noqa: T201 - the shares in docs/ROBUSTNESS.md


def test_a_few_mutants_of_a_live_image_deceive_nobody(tmp_path: Path) -> None:
    check(16, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_mutants_of_a_live_image_deceive_few(tmp_path: Path) -> None:
    check(1000, tmp_path)
