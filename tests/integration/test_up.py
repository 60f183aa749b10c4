"""`undercroft up` where it cannot run: one clear error, exit code 1, and nothing that was there disturbed.

Where it ran before with a good policy, a wrong one ends nothing: it goes on by the good one.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from program import PROGRAM

UP = ("up", "-c", "test:///default", "--no-hook", "--no-metrics")
GOOD = "version: 1\n"
WRONG = "version: 1\ndefaults: {drifting: refus, grase: 3d}\n"


class Place:
    """Folders of an agent's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.etc.mkdir()
        (self.etc / "policy.yaml").write_text(GOOD)
        self.environment = {
            **os.environ,
            "NO_COLOR": "1",
            "UNDERCROFT_STATE": str(folder / "state"),
            "UNDERCROFT_RUN": str(folder / "run"),
            "UNDERCROFT_ETC": str(self.etc),
            "UNDERCROFT_DATABASE": str(folder / "advisories.db"),
            "UNDERCROFT_FLEET_DATABASE": "",
        }
        self.socket = folder / "run" / "admission.sock"

    def run(self, *arguments: str, lacking: str = "", reads_s: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the program to its end.

        Args:
            arguments: without the program.
            lacking: without these capabilities of root.
            reads_s: after so many seconds it is interrupted, 0 for never.
        """
        without = ["setpriv", f"--bounding-set={lacking}", f"--inh-caps={lacking}"] if lacking else []
        without += ["timeout", "-s", "INT", str(reads_s)] if reads_s else []
        return subprocess.run(
            [*without, str(PROGRAM), *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    @contextmanager
    def up(self) -> Iterator["subprocess.Popen[str]"]:
        """Run the agent while the block runs."""
        log = (self.folder / "log").open("w+")
        with log, subprocess.Popen([str(PROGRAM), *UP], env=self.environment, stderr=log, text=True) as agent:
            try:
                ends = time.monotonic() + 60
                while not self.socket.exists():
                    assert agent.poll() is None, self.log()
                    assert time.monotonic() < ends, self.log()
                    time.sleep(0.05)
                yield agent
            finally:
                agent.send_signal(signal.SIGTERM)
                agent.wait(60)

    def log(self) -> str:
        """Return what the agent has written."""
        return (self.folder / "log").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one error of a run that failed."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    return done.stderr


def test_it_runs_until_it_is_asked_to_end_also_without_libvirt_or_advisories(place: Place) -> None:
    with place.up() as agent:
        pass
    assert agent.returncode == 0, place.log()
    assert not place.socket.exists()
    assert place.run("audit", "verify").returncode == 0


def test_a_second_agent_is_refused_and_takes_nothing_from_the_first(place: Place) -> None:
    with place.up() as agent:
        waiting = place.folder / "state" / "spool" / ".half-written"
        waiting.write_text("")
        assert "another agent runs" in complaint(place.run(*UP))
        assert agent.poll() is None
        assert place.socket.exists()
        assert waiting.exists()
        agent.kill()
        agent.wait()
        place.socket.unlink()
    with place.up() as agent:  # one that was killed is in nobody's way
        assert agent.poll() is None


def test_a_first_start_with_a_wrong_policy_is_refused_with_each_mistake_on_its_own_line(place: Place) -> None:
    (place.etc / "policy.yaml").write_text(WRONG)
    told = complaint(place.run(*UP)).splitlines()
    assert len(told) == 2, told
    assert told[0].startswith(f"undercroft: error: {place.etc}/policy.yaml:2:")
    assert "did you mean 'refuse'" in told[0]
    assert told[1].startswith(f"  {place.etc}/policy.yaml:2:")
    assert "grase" in told[1]


@pytest.mark.parametrize("text", [WRONG, None], ids=["wrong", "removed"])
def test_a_wrong_or_removed_policy_at_a_restart_leaves_the_last_good_one_and_is_told_loudly(
    place: Place, text: str | None
) -> None:
    policy = place.etc / "policy.yaml"
    policy.write_text("version: 1\nagent_away: {default: refuse}\n")
    with place.up():
        pass
    policy.unlink()
    if text is not None:
        policy.write_text(text)
    with place.up() as agent:
        assert agent.poll() is None
        looked, checked = place.run("doctor"), place.run("doctor", "-f", "json")
    assert agent.returncode == 0, place.log()
    first, *lines = place.log().partition("the policy's files do not hold")[2].splitlines()
    assert first == ", the last good policy does:"
    mistakes = 1 if text is None else 2
    assert sum(line.startswith(f"  {policy}:") for line in lines) == mistakes
    watched = place.run("watch", "-f", "json", "--since", "0", reads_s=3).stdout.splitlines()
    problems = [entry["body"]["problem"] for entry in map(json.loads, watched) if entry["kind"] == "policy"]
    assert len(problems) == 1
    assert str(policy) in problems[0]
    assert "\\u000A" not in looked.stdout
    # Not from the page, which wraps a path that is long.
    (told,) = [one for one in json.loads(checked.stdout)["checks"] if one["name"] == "policy"]
    assert str(policy) in told["found"] + told["cure"]
    assert "the last good one" in told["found"] + told["cure"]


def test_the_agent_signs_again_once_a_new_record_is_restarted(place: Place) -> None:
    with place.up():
        pass
    for file in (place.folder / "state").glob("fleet.db*"):
        file.unlink()
    with place.up():
        ends = time.monotonic() + 60
        while "undercroft audit restart --reason" not in place.log():
            assert time.monotonic() < ends, place.log()
            time.sleep(0.05)
        assert "undercroft audit restart --reason" in " ".join(place.run("doctor").stdout.split())
        done = place.run("audit", "restart", "--reason", "the disk broke")
        assert done.returncode == 0, done.stderr
    assert place.log().count("head is not signed") == 1, "told once, not every two seconds"
    assert place.run("audit", "export").returncode == 0
    verified = place.run("audit", "verify").stdout
    assert "the disk broke" in verified


def test_a_policy_that_becomes_wrong_is_told_in_the_journal_with_each_mistake_on_its_own_line(
    place: Place,
) -> None:
    policy = place.etc / "policy.yaml"
    with place.up() as agent:
        policy.with_suffix(".new").write_text(WRONG)
        policy.with_suffix(".new").replace(policy)
        ends = time.monotonic() + 60
        while "grase" not in place.log():
            assert time.monotonic() < ends, place.log()
            time.sleep(0.05)
        assert agent.poll() is None
    first, second = place.log().partition("the last good one holds: ")[2].splitlines()[:2]
    assert first.startswith(f"{policy}:2:")
    assert "did you mean 'refuse'" in first
    assert second.startswith(f"  {policy}:2:")
    assert "grase" in second


def test_an_address_for_metrics_that_is_none_is_told(place: Place) -> None:
    told = complaint(place.run("up", "-c", "test:///default", "--no-hook", "--metrics", "nowhere"))
    assert "--metrics 'nowhere': HOST:PORT expected" in told


def test_a_database_that_is_away_is_told(place: Place) -> None:
    told = complaint(place.run(*UP, "--database", f"postgresql://fleet@/fleet?host={place.folder}"))
    assert "fleet" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="gives root up")
def test_who_may_not_write_the_state_is_told(place: Place) -> None:
    state = place.folder / "state"
    state.mkdir(mode=0o755)
    os.chown(state, 65534, 65534)
    told = complaint(place.run(*UP, lacking="-dac_override,-dac_read_search,-fowner"))
    assert "Permission denied" in told
    assert "state" in told


def test_advisories_that_cannot_be_used_end_nothing(place: Place) -> None:
    (place.folder / "advisories.db").write_bytes(b"no database " * 1000)
    with place.up() as agent:
        time.sleep(0.5)
        assert agent.poll() is None, place.log()
    assert agent.returncode == 0, place.log()
