"""docs/FIREWALL.md and the README say of the firewall what the program does."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import firewallrecord as fleet
import pytest

from undercroft.assurance.firewall.assumptions import ASSUMPTIONS, NOT_COVERED
from undercroft.cli.firewall import command as firewall
from undercroft.cli.program import run
from undercroft.store.fleet.records import open_records
from undercroft.usecases.firewall.inforce import policy_of_file

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs/FIREWALL.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"undercroft firewall ([a-z]+)([^`#\n|;)]*)")
OPTION = re.compile(r"(?<!\S)--?[a-z]+")


def blocks(kind: str) -> list[str]:
    return [body for found, body in BLOCK.findall(DOCUMENT) if found == kind]


def transcripts() -> Iterator[tuple[str, str]]:
    """Yield each command that is shown with its answer."""
    for body in blocks(""):
        if body.startswith("$ undercroft firewall "):
            asked, _, answer = body.partition("\n")
            yield asked.removeprefix("$ undercroft "), answer


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The document's first policy, applied to the fleet of these tests."""
    (tmp_path / "policy.yaml").write_text(blocks("yaml")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    records = open_records(str(tmp_path / "fleet.db"))
    fleet.fill(records)
    fleet.apply(records, blocks("yaml")[0])
    records.close()
    return str(tmp_path / "fleet.db")


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_policy_in_it_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    policy_of_file(path, fleet.TODAY)


@pytest.mark.parametrize(("asked", "answer"), list(transcripts()))
def test_every_answer_in_it_is_what_the_command_prints(
    asked: str, answer: str, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run([*asked.split(), "--record", database])
    found = capsys.readouterr().out
    for piece in answer.split("  ...\n"):  # what depends on where it runs, or is not shown
        assert piece in found
        found = found.partition(piece)[2]


@pytest.mark.parametrize("text", [DOCUMENT, README], ids=["FIREWALL.md", "README.md"])
def test_every_command_and_option_that_it_names_is_there(text: str) -> None:
    named = COMMAND.findall(text)
    assert named
    for name, rest in named:
        found = firewall.commands.get(name)
        assert found is not None, name
        options = {flag for item in found.params if isinstance(item, click.Option) for flag in item.opts}
        assert set(OPTION.findall(rest)) <= options, (name, rest)


def test_the_readmes_picture_is_the_map_of_its_first_policy(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["firewall", "map", "--svg", "-", "--record", database]) == 0
    assert capsys.readouterr().out == (ROOT / "docs/img/firewall-map.svg").read_text(encoding="utf-8")


def test_it_has_every_assumption_of_a_proof_and_everything_that_no_proof_covers() -> None:
    listed = re.search(r"<!-- limits -->\n(.*)<!-- /limits -->", DOCUMENT, re.DOTALL)
    assert listed
    lines = [line.removeprefix("- ") for line in listed[1].splitlines() if line.startswith("- ")]
    assert lines == [*ASSUMPTIONS, *NOT_COVERED]
