"""`undercroft policy check` tells of flows that are allowed and forbidden at once."""

from click.testing import CliRunner

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.policy import check

POLICY = """\
version: 1
labels: {web: {machines: "web*"}, db: {machines: "db*"}}
firewall:
  - {from: world, to: web, allow: tcp/443}
  - {from: web, to: db, allow: tcp/5432}
never:
"""


def checked(path, text):
    path.write_text(POLICY + text)
    return CliRunner().invoke(check, [str(path)], standalone_mode=False)


def test_a_contradiction_is_an_error_that_names_the_flow(tmp_path):
    path = tmp_path / "policy.yaml"
    result = checked(path, "  - {from: world, to: db, hops: 2}\n")
    assert result.return_value == ExitCode.ERROR
    assert f"{path}:7:1: never from world to db in 2 hops" in result.output
    assert f"world to web tcp/443 ({path}:4), then web to db tcp/5432 ({path}:5)" in result.output


def test_a_policy_without_one_is_whole(tmp_path):
    assert checked(tmp_path / "policy.yaml", "  - {from: world, to: db}\n").return_value == ExitCode.CLEAN
