"""README says of formats what the code's own tables say, and nothing else."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "formats.py"))


def test_readme_holds_the_table_that_the_code_makes(tool: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert text == tool["placed"](text), "python tools/formats.py --write"


def test_a_readme_that_says_more_than_the_code_is_found(tool: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    boastful = text.replace(tool["END"], "| ZFS | whole | all of it |\n" + tool["END"])
    assert boastful != tool["placed"](boastful)


def test_every_format_has_a_title_and_a_sentence(tool: dict[str, Any]) -> None:
    titles: set[str] = set()
    count = 0
    for line in tool["table"]().splitlines()[2:]:
        title, level, reads = line.strip("|").split("|")
        if title.startswith(" **"):
            titles.clear()
            continue
        count += 1
        assert level.strip() in {"whole", "in part", "recognized only", ""}
        assert title.strip()
        assert reads.strip()
        assert title not in titles, "each has one line"
        titles.add(title)
    assert count > 20


def test_what_is_recognized_and_not_read_is_listed(tool: dict[str, Any]) -> None:
    table = tool["table"]()
    for name in ("zfs", "bitlocker", "hfsplus", "QED"):
        line = next(line for line in table.splitlines() if name in line)
        assert "recognized only" in line
    assert "swap" not in table.split("**Packages**")[0].split("**Filesystems**")[1]
