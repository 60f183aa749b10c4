"""Damaged filesystems: each is read or refused, within 512 MB and 10 seconds, and never answered wrongly."""

import json
import os
import random
from pathlib import Path

import extimages
import extmutants
import pytest
from mutants import ext_areas
from mutantworkers import counts

MUTANTS = int(os.environ.get("UNDERCROFT_EXT_MUTANTS", "80"))
"""Of each family; `make soak` may ask for more."""

FAMILIES = {
    "ext4": ("-t ext4", True),
    "ext4-1k-inline": ("-t ext4 -b 1024 -O inline_data", True),
    "ext4-without-checksums": ("-t ext4 -b 1024 -O ^metadata_csum", True),
    "ext3": ("-t ext3 -b 1024", True),
    "ext2": ("-t ext2 -b 1024", False),
}
MOST_WRONG = {"ext4": 0.01, "ext4-1k-inline": 0.01}
"""With checksums, hardly any mutant may be answered wrongly without a word: only 16-bit checksums slip."""
MOST_WRONG_WITHOUT_CHECKSUMS = 0.4


@pytest.mark.parametrize("name", FAMILIES)
def test_mutants_are_read_or_refused_and_hardly_ever_answered_wrongly(name: str, tmp_path: Path) -> None:
    options, has_journal = FAMILIES[name]
    image = _image(tmp_path, name, options, has_journal)
    areas = json.dumps(ext_areas(image, 0))
    found = counts(extmutants, image, areas, 0, MUTANTS, count=MUTANTS, timeout_s=110)
    assert found["refused"] > MUTANTS / 20, found
    assert found["wrong"] <= MUTANTS * MOST_WRONG.get(name, MOST_WRONG_WITHOUT_CHECKSUMS), found


def _image(folder: Path, name: str, options: str, has_journal: bool) -> Path:
    """Make a small filesystem with one of everything, and with a journal that needs a replay."""
    rng = random.Random(2)
    source = folder / "source"
    (source / "folder" / "deep").mkdir(parents=True)
    for number in range(40):
        (source / "folder" / f"file-{number:03}").write_bytes(rng.randbytes(number * 97))
    (source / "large").write_bytes(rng.randbytes(400_000))
    with (source / "scattered").open("wb") as file:
        for number in range(30):
            file.seek(number * 16384)
            file.write(b"scattered")
    (source / "folder" / "deep" / "link").symlink_to("x" * 90)
    (source / "short").symlink_to("folder/deep")
    image = extimages.make(folder / name, *options.split(), size="8M", tree=source)
    if has_journal:
        blocks = extimages.run("debugfs", "-R", "blocks /large", image).splitlines()[0].split()[:6]
        block_bytes = 1024 if "1024" in options else 4096
        (folder / "data").write_bytes(rng.randbytes(6 * block_bytes))
        script = f"jo{' -c' if name in MOST_WRONG else ''}\njw -b {','.join(blocks)} {folder}/data\n"
        script += f"jw -b {','.join(blocks[2:4])} {folder}/data\njw -r {blocks[0]}\njc\n"
        extimages.run("debugfs", "-w", "-f", "-", image, stdin=script)
        assert extimages.open_image(image).notes
    return image
