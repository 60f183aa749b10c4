"""A name in a header picks among the files that somebody trusted has named, and opens nothing."""

from pathlib import Path

import pytest

from undercroft.usecases.chain import UnreadError, pick
from undercroft.usecases.target import NamedFile


def test_a_relative_name_means_the_file_beside_the_image(tmp_path: Path) -> None:
    base = NamedFile(str(tmp_path / "base.qcow2"))
    assert pick("base.qcow2", str(tmp_path / "top.qcow2"), [base], "--backing") == base
    assert pick("file:base.qcow2", str(tmp_path / "top.qcow2"), [base], "--backing") == base


def test_a_copied_chain_is_found_by_the_last_component(tmp_path: Path) -> None:
    base = NamedFile(str(tmp_path / "copy" / "base.qcow2"))
    assert pick("/var/lib/images/base.qcow2", str(tmp_path / "top.qcow2"), [base], "--backing") == base


@pytest.mark.parametrize("planted", ["/etc/shadow", "../../etc/shadow", "neighbour.qcow2", "", "a\0b"])
def test_a_planted_name_opens_nothing_and_names_the_option(planted: str, tmp_path: Path) -> None:
    base = NamedFile(str(tmp_path / "base.qcow2"))
    with pytest.raises(UnreadError, match="--backing FILE"):
        pick(planted, str(tmp_path / "top.qcow2"), [base], "--backing")


def test_two_files_with_the_name_are_told_apart_by_the_caller(tmp_path: Path) -> None:
    files = [NamedFile(str(tmp_path / folder / "base.qcow2")) for folder in ("a", "b")]
    with pytest.raises(UnreadError, match=r"fits .* and .*; name one of them"):
        pick("/gone/base.qcow2", str(tmp_path / "top.qcow2"), files, "--backing")
