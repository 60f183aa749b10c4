"""Damaged XFS filesystems: each is read or refused, within 512 MB and 10 s; version 5 hardly ever lies."""

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import xfsimages
import xfsmutants
from mutantworkers import counts

MUTANTS = int(os.environ.get("UNDERCROFT_XFS_MUTANTS", "20"))
"""Of each family; the soak asks for more."""
SOAK_MUTANTS = 1000

FAMILIES = ("v5", "v5-dirty-log", "v4", "v5-dirty-log-sealed")
MOST_WRONG = {"v5": 0.0, "v5-dirty-log": 0.05, "v4": 0.4, "v5-dirty-log-sealed": 1.0}
"""Damage to the last record of the log may look like a write that was cut off, to the kernel too: a note.

Version 4 has no checksums, so that it cannot tell damage from content. What is sealed is the work of an
attacker, who writes what he likes: there only crashes, time and memory count.
"""

CHANGES = r"""
import os, random
rng = random.Random(5)
os.makedirs("folder/deep")
for number in range(40):
    open(f"folder/file-{number:03}", "wb").write(rng.randbytes(number * 97))
with open("scattered", "wb") as file:
    for number in range(60):
        file.seek(number * 16384)
        file.write(b"scattered")
        os.fdatasync(file.fileno())
os.symlink("x" * 900, "folder/deep/link")
os.symlink("folder/deep", "short")
os.rename("folder/file-003", "folder/deep/moved")
open("folder/file-004", "ab").write(b"more")
os.fsync(os.open("folder", os.O_RDONLY))
"""


def _image(folder: Path, name: str) -> Path:
    options = ("-b", "size=1024", "-l", "size=6m")
    if name.startswith("v5-dirty-log"):
        problem = xfsimages.mounting_problem()
        if problem:
            pytest.skip(problem)
        return xfsimages.dirty(xfsimages.make(folder / name, *options, size="20M"), CHANGES)
    rng = random.Random(2)
    source = folder / "source"
    (source / "folder" / "deep").mkdir(parents=True)
    for number in range(60):
        (source / "folder" / f"file-{number:03}").write_bytes(rng.randbytes(number * 97))
    (source / "large").write_bytes(rng.randbytes(400_000))
    (source / "folder" / "deep" / "link").symlink_to("x" * 200)
    (source / "short").symlink_to("folder/deep")
    (source / "little").mkdir()
    (source / "little" / "one").write_text("1")
    return xfsimages.make_from(source, folder / name, "-m", f"crc={int(name == 'v5')}", *options, size="20M")


def campaign(folder: Path, name: str, count: int) -> Counter[str]:
    """Return what became of `count` mutants. AssertionError where one crashed."""
    is_sealed = int(name.endswith("sealed"))
    image = _image(folder, name)
    return counts(xfsmutants, image, 0, count, is_sealed, count=count, timeout_s=110 + count)


@pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs xfsprogs")
@pytest.mark.parametrize("name", FAMILIES)
def test_mutants_are_read_or_refused_and_hardly_ever_answered_wrongly(name: str, tmp_path: Path) -> None:
    found = campaign(tmp_path, name, MUTANTS)
    assert found["refused"] >= MUTANTS / 20, found
    assert found["wrong"] <= MUTANTS * MOST_WRONG[name], found


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs xfsprogs")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_thousand_mutants(name: str, tmp_path: Path) -> None:
    found = campaign(tmp_path, name, SOAK_MUTANTS)
    assert found["wrong"] <= SOAK_MUTANTS * MOST_WRONG[name], found
