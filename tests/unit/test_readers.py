"""What an answer that is kept says of the readers that gave it."""

from pathlib import Path

import pytest

from undercroft import readers
from undercroft.readers import FOLDERS, digest_of, readers_digest


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name in FOLDERS:
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "reader.py").write_text("READS = 1\n")
    return tmp_path


def test_a_changed_line_of_a_reader_makes_other_readers_within_one_version(package: Path) -> None:
    before = digest_of(str(package))
    (package / "disks/inner/reader.py").write_text("READS = 2\n")
    assert digest_of(str(package)) != before


def test_a_reader_that_is_added_or_called_otherwise_makes_other_readers(package: Path) -> None:
    before = digest_of(str(package))
    (package / "inventory/more.py").write_text("")
    added = digest_of(str(package))
    (package / "inventory/more.py").rename(package / "inventory/less.py")
    assert len({before, added, digest_of(str(package))}) == 3


def test_what_the_interpreter_leaves_beside_them_makes_no_others(package: Path) -> None:
    before = digest_of(str(package))
    (package / "disks/__pycache__").mkdir()
    (package / "disks/__pycache__/reader.cpython-311.pyc").write_bytes(b"\0")
    assert digest_of(str(package)) == before


def test_a_package_that_they_need_and_find_later_makes_other_readers(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PACKAGES", ("not_installed_here",))
    without = digest_of(str(package))
    monkeypatch.setattr(readers, "PACKAGES", ("json",))
    assert digest_of(str(package)) != without
    assert readers_digest() == readers_digest()
