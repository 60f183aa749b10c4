"""The group of commands: its help, and what it does without a command."""

import pytest

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.program import run


@pytest.mark.parametrize("arguments", [[], ["feeds"]])
def test_without_a_command_the_help_is_shown_as_it_is(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == ExitCode.USAGE
    shown = capsys.readouterr().err
    assert "Commands:\n" in shown
    assert "\\u000A" not in shown


def test_what_an_administrator_needs_first_stands_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == ExitCode.CLEAN
    listed = capsys.readouterr().out.partition("Commands:\n")[2]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line.strip()]
    assert names[:3] == ["up", "doctor", "fleet"]
    assert names.index("watch") < names.index("scan") < names.index("feeds")
