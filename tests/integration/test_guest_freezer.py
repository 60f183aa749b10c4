"""Each helper's freezer with real processes, in namespaces of the test's own: it can freeze nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import reseedhelper

PLAY = Path(__file__).parents[1] / "support" / "freezerplay.py"
UNIFIED = next(
    (each for each in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if Path(each, "cgroup.procs").exists()), ""
)

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None,
    reason="needs root and unshare for namespaces of its own",
)


@pytest.fixture(params=["python", "small"])
def play(request, tmp_path):
    """Return what runs the play with the freezer of one helper."""
    if request.param == "python":
        return lambda how, group="": played(tmp_path, how, group)
    if reseedhelper.missing():
        pytest.skip(reseedhelper.missing())
    shared = reseedhelper.shared_object()
    return lambda how, group="": played(tmp_path, how, group, shared)


def played(tmp_path, how, group, library=""):
    """Run the play as process 2 of a PID namespace, whose process 1 is a shell; return what it found."""
    enter = f"echo $$ > {group}/cgroup.procs && exec " if group else "exec "
    namespaces = "unshare --mount --pid --fork --mount-proc --propagation private" + (
        " --cgroup" if group else ""
    )
    inside = f"{sys.executable} -ISB {PLAY} {how} {tmp_path} {library} & wait $!"
    done = subprocess.run(
        ["sh", "-c", enter + namespaces + ' sh -c "$0"', inside],
        capture_output=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_signals_stop_what_counts_forks_and_has_threads_and_let_it_go_on(play):
    found = play("signals")
    assert found["control"], "without the freezer, all of them count on"
    assert found["still"] == [], found
    assert found["text"] == "still run: 1", "process 1 takes no signal: that is told"
    assert found["again"], found
    assert found["kept_stopped"], "what was stopped before stays so"


@pytest.fixture
def group():
    if not UNIFIED:
        pytest.skip("needs cgroup v2")
    folder = Path(UNIFIED, f"undercroft-test-{os.getpid()}")
    folder.mkdir()
    if not (folder / "cgroup.freeze").exists():
        folder.rmdir()
        pytest.skip("needs a kernel whose cgroup v2 freezes (Linux 5.2)")
    yield folder
    for each in [*folder.iterdir(), folder]:
        if each.is_dir():
            each.rmdir()


def test_groups_freeze_all_but_the_helper_process_1_too(play, group):
    found = play("groups", group)
    assert found["control"]
    assert (found["still"], found["frozen"], found["text"]) == ([], True, "groups and signals"), found
    assert found["first_frozen"], "process 1 was moved into a frozen group"
    assert found["again"], found
    assert found["back"], "process 1 is back in its group"


def test_a_new_helper_thaws_what_one_before_it_froze(play, group):
    found = play("restart", group)
    assert found["still"] == [], found
    assert found["again"], found


def test_a_group_that_was_removed_meanwhile_is_not_taken_for_one_that_runs(play, group):
    found = play("gone", group)
    assert (found["still"], found["frozen"], found["text"]) == ([], True, "groups and signals"), found
    assert found["again"], found
