from pathlib import Path

import pytest

from undercroft.adapters import apt
from undercroft.adapters.apt import host_sources, read_sources
from undercroft.errors import InputError, OperationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    more = tmp_path / "sources.list.d"
    more.mkdir()
    (tmp_path / "sources.list").write_text("deb https://a.example.org/debian bookworm main\n")
    (more / "b.sources").write_text(
        "Types: deb\nURIs: https://b.example.org\nSuites: jammy-security\nComponents: main\n"
    )
    (more / "c.list").write_text("deb https://c.example.org/tool tool-bookworm main\n")
    (more / "ignored.save").write_text("nonsense")
    return tmp_path


def test_the_hosts_sources_of_the_distributions_are_read_in_both_styles(folder):
    assert [source.base for source in host_sources(folder)] == [
        "https://a.example.org/debian",
        "https://b.example.org",
    ]


def test_a_host_without_any_source_has_none(tmp_path):
    assert host_sources(tmp_path) == []


def test_a_file_is_read_whatever_its_suites_are_called(folder):
    (found,) = read_sources(folder / "sources.list.d" / "c.list")
    assert found.suite == "tool-bookworm"


def test_what_cannot_be_read_is_one_clear_line(folder, monkeypatch):
    with pytest.raises(OperationError, match=r"missing\.list: cannot be read"):
        read_sources(folder / "missing.list")
    (folder / "sources.list").write_text("no source\n")
    with pytest.raises(InputError, match=r"sources\.list: line 1"):
        host_sources(folder)
    monkeypatch.setattr(apt, "MAX_SOURCES_BYTES", 5)
    with pytest.raises(InputError, match="larger than the limit"):
        read_sources(folder / "sources.list")
