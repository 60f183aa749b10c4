"""`undercroft lineage` over a real record."""

import json
from pathlib import Path
from xml.etree import ElementTree

import fleetdata
import pytest
from fleetdata import NOW
from lives import World

from undercroft.cli.program import run
from undercroft.model.domain import DomainCheckpoint, Survey
from undercroft.store.fleet.records import open_records


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "fleet.db")
    records = open_records(path)
    world = World(records)
    web = world.machine("web01")
    world.start(web)
    snap = world.snapshot(web, "before")
    world.survey()
    world.revert(web, snap)
    records.close()
    return path


def test_the_tree_comes_from_the_record(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lineage", "web01", "--record", database]) == 0
    assert "reverted to before" in capsys.readouterr().out


def test_the_picture_goes_into_a_file(database: str, tmp_path: Path) -> None:
    picture = tmp_path / "tree.svg"
    assert run(["lineage", "web01", "--record", database, "--svg", str(picture)]) == 0
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_a_picture_that_cannot_be_written_is_an_error_that_names_it(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "no" / "tree.svg"
    assert run(["lineage", "web01", "--record", database, "--svg", str(missing)]) == 1
    assert f"{missing}: the picture cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_programs_get_the_same_tree(database: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lineage", "web01", "--record", database, "-f", form]) == 0
    assert "undercroft/lineage/1" in capsys.readouterr().out


def test_a_machine_that_nobody_knows_is_not_found(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lineage", "mail", "--record", database]) == 3
    assert "mail" in capsys.readouterr().err


def test_a_machines_checkpoints_are_shown_by_both_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "fleet.db")
    taken = (DomainCheckpoint("c1", "", int(NOW.timestamp())), DomainCheckpoint("c2", "c1"))
    records = open_records(path)
    with records.transaction() as record:
        machine = fleetdata.domain(1, "web01", checkpoints=taken)
        record.put_survey(Survey("host1", "", NOW, (machine,)))
    records.close()
    for command in ("machine", "lineage"):
        run([command, "web01", "--record", path])
        shown = " ".join(capsys.readouterr().out.split())
        assert (
            f"checkpoint c1 since {NOW:%Y-%m-%d %H:%M} checkpoint c2 since when is not known, on c1" in shown
        )
        run([command, "web01", "--record", path, "-f", "json"])
        found = json.loads(capsys.readouterr().out)["checkpoints"]
        assert [(one["name"], one["parent"], one["taken_at"]) for one in found] == [
            ("c1", "", NOW.isoformat()),
            ("c2", "c1", None),
        ]
