"""What revert, release and retention refuse before anything is opened."""

import pytest

from undercroft.cli.program import run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revert", "web01", "before", "--anyway"], "--reason"),
        (["revert", "web01", "before", "--anyway", "--reason", " "], "--reason"),
        (["release", "web01"], "--reason"),
        (["release", "web01", "--reason", " "], "--reason"),
        (["retention", "--remove", "old", "--reason", "x"], "NAME"),
        (["retention", "web01", "--remove", "old"], "--reason"),
    ],
)
def test_a_command_that_goes_on_record_asks_for_a_reason(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["revert", "release", "retention"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"undercroft {command} web01" in capsys.readouterr().out


def test_retention_of_a_host_without_a_record_says_how_to_begin_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERCROFT_STATE", str(tmp_path))
    assert run(["retention"]) == 3
    assert "undercroft up" in capsys.readouterr().err
