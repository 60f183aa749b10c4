"""Damaged btrfs images: each is read or refused, within 512 MB and 10 seconds, and never answered wrongly."""

from collections import Counter
from pathlib import Path

import btrfsimages
import btrfsmutants
import pytest
from mutantworkers import counts

pytestmark = pytest.mark.skipif(
    bool(btrfsimages.problem()), reason=btrfsimages.problem() or "btrfs can be made and mounted"
)

MUTANTS = 20
"""Of each family in every run; the soak takes 400."""

FAMILIES = {
    "single": ("-m single -d single", "rw", False),
    "dup-compressed": ("-m dup -d single -n 4096", "rw,compress-force=lzo", False),
    "sealed": ("-m single -d single -n 4096", "rw,compress-force=zstd", True),
}
"""Those that are sealed have right checksums, as an attacker would set them: what is read then is what
the attacker wrote, and only the limits are asked for."""

WRITES = """
import os, random, subprocess
rng = random.Random(2)
def sub(*words):
    subprocess.run(["btrfs", "subvolume", *words], check=True, stdout=subprocess.DEVNULL)
os.makedirs("folder/deep")
for number in range(40):
    open(f"folder/file-{number:03}", "wb").write(rng.randbytes(number * 97))
open("text", "w").write("".join(f"line {number} {number * number}\\n" for number in range(20_000)))
open("large", "wb").write(rng.randbytes(200_000))
with open("scattered", "wb") as file:
    for number in range(30):
        file.seek(number * 16384)
        file.write(b"scattered")
os.symlink("x" * 90, "folder/deep/link")
sub("create", "sub")
open("sub/inner", "w").write("inner")
sub("snapshot", "sub", "snap")
subprocess.run(["btrfs", "filesystem", "sync", "."], check=True)
for number in range(6):
    os.rename(f"folder/file-{number:03}", f"folder/moved-{number}")
    with open(f"folder/moved-{number}", "ab") as file:
        file.write(rng.randbytes(6000))
        file.flush()
        os.fsync(file.fileno())
os.unlink("folder/file-030")
descriptor = os.open("folder", os.O_RDONLY)
os.fsync(descriptor)
"""


def campaign(name: str, first: int, count: int, folder: Path) -> Counter[str]:
    options, mount_options, sealed = FAMILIES[name]
    images = btrfsimages.make(folder, *options.split(), name=name)
    dirty = btrfsimages.write_dirty(images, WRITES, mount_options)[0]
    assert btrfsimages.open_images([dirty]).notes
    arguments = dirty, first, count, int(sealed)
    found = counts(btrfsmutants, *arguments, count=count, timeout_s=900)
    assert found["refused"] > count / 20, found
    if not sealed:
        assert found["wrong"] == 0, found
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_mutants_are_read_or_refused_and_never_answered_wrongly(name: str, tmp_path: Path) -> None:
    campaign(name, 0, MUTANTS, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("name", FAMILIES)
def test_many_mutants_are_read_or_refused_and_never_answered_wrongly(name: str, tmp_path: Path) -> None:
    campaign(name, 1000, 400, tmp_path)
