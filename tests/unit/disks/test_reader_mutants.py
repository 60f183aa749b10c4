"""Any bytes in a FAT, exFAT or UFS give files or an InputError, within limits of time and memory."""

import sys
from collections import Counter
from pathlib import Path
from random import Random

import exfatimages
import pytest
import readermutants
import ufsimages
from databasemutants import areas_of
from diskimages import MIB, make_raw, run

FAMILIES = ("fat12", "fat16", "fat32", "ufs1", "ufs2", "ufs2, check hashes", "exfat")
KINDS = {"fat": "vfat", "exf": "exfat", "ufs": "ufs"}
MUTANTS = 15
CONTENT = Random(3).randbytes(200_000)


def tree(folder: Path) -> Path:
    random = Random(5)
    (folder / "long").parent.mkdir()
    (folder / "long").write_bytes(CONTENT)
    for number in range(60):
        path = folder / f"folder-{number % 7}" / f"file number {number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENT[: random.choice((0, 30, 5000))])
    return folder


def made(name: str, folder: Path) -> bytes:
    source = tree(folder / "tree")
    if name == "exfat":
        if reason := exfatimages.missing():
            pytest.skip(reason)
        image = exfatimages.make(folder / "image", "-c", "4K", size_bytes=4 * MIB)
        return exfatimages.fill(image, f"cp -r '{source}/.' .").read_bytes()
    if name.startswith("fat"):
        image = make_raw(folder / "image", {"fat12": 2, "fat16": 5, "fat32": 36}[name] * MIB)
        run("mkfs.vfat", "-F", name[3:], "-s", "1", image)
        run("mcopy", "-s", "-i", image, *sorted(source.iterdir()), "::/")
        return image.read_bytes()
    if reason := ufsimages.missing():
        pytest.skip(reason)
    (source / "link").symlink_to("folder-1/file number 1")
    content = ufsimages.make(source, folder / "image", f"version={name[3]}", 4 * MIB).read_bytes()
    return ufsimages.hashed(content) if "," in name else content


def outcomes(name: str, folder: Path, count: int) -> Counter[str]:
    """Damage what is in use and not a file's content."""
    content = made(name, folder)
    path = folder / "base"
    path.write_bytes(content)
    areas = [area for area in areas_of(content) if content[area[0] : area[0] + 30] not in CONTENT]
    return readermutants.campaign(name, KINDS[name[:3]], path, areas, count)


@pytest.mark.parametrize("name", ["fat16", "ufs2, check hashes", "exfat"])
def test_a_few_mutants_end_with_an_answer(name: str, tmp_path: Path) -> None:
    assert outcomes(name, tmp_path, MUTANTS).total() == MUTANTS


@pytest.mark.timeout(3600)
@pytest.mark.soak
@pytest.mark.parametrize("name", FAMILIES)
def test_a_thousand_mutants_end_with_an_answer(name: str, tmp_path: Path) -> None:
    found = outcomes(name, tmp_path, 1000)
    sys.stderr.write(f"{name}: {dict(found)}\n")  # the shares in docs/ROBUSTNESS.md
