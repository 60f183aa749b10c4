"""Small XFS images of versions 4 and 5 for tests that change them; each test has copies of its own."""

import random
from pathlib import Path

import pytest
import xfsimages
from xfschanges import BLOCK, SIZE


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("xfs") / "source"
    for folder in ("folder", "other"):
        (source / folder).mkdir(parents=True)
        for number in range(30):
            (source / folder / f"{folder}-{number}").write_text(str(number))
    (source / "little").mkdir()
    (source / "little" / "inner").write_text("inner")
    (source / "file").write_bytes(random.Random(1).randbytes(SIZE))
    (source / "link").symlink_to("folder/folder-1")
    return source


def _made(source: Path, folder: Path, crc: int) -> Path:
    options = ("-m", f"crc={crc}", "-b", f"size={BLOCK}", "-l", "size=6m", "-d", "agcount=2")
    return xfsimages.make_from(source, folder / f"v{4 + crc}", *options, size="34M")


@pytest.fixture(scope="module")
def bases(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {4: _made(source, folder, 0), 5: _made(source, folder, 1)}


@pytest.fixture
def image(bases: dict[int, Path], tmp_path: Path) -> Path:
    return _copy(bases[5], tmp_path / "image")


@pytest.fixture
def image_v4(bases: dict[int, Path], tmp_path: Path) -> Path:
    return _copy(bases[4], tmp_path / "image-v4")


def _copy(base: Path, copy: Path) -> Path:
    xfsimages.run("cp", "--sparse=always", base, copy)
    return copy
