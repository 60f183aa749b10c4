"""On which hosts the sandbox can be had, and what is said where it cannot."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hostile_jobs
import pytest

import undercroft
from undercroft.errors import DeniedError, OperationError
from undercroft.sandbox import launcher
from undercroft.sandbox.bubblewrap import PACKAGES

NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
PROGRAM = """
import os
from undercroft.sandbox import launcher
with launcher.start(jobs_module="hostile_jobs") as reader:
    print(os.getuid(), reader.call("echo", {"hello": 1}, []), reader.call("list_folder", {"path": "/"}, []))
"""


def test_the_products_own_jobs_load_inside() -> None:
    with launcher.start() as reader, pytest.raises(OperationError, match="no job named nothing"):
        reader.call("nothing", {}, [])


def test_without_bubblewrap_the_refusal_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(DeniedError) as caught:
        launcher.start()
    assert "apt install bubblewrap" in str(caught.value)
    assert "--no-sandbox" in str(caught.value)
    assert os.listdir("/proc/self/fd") == before


def test_an_architecture_without_a_filter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*found[:4], "s390x")))
    with pytest.raises(DeniedError, match=r"architecture s390x.*--no-sandbox"):
        launcher.start()


def test_a_package_that_readers_need_is_missed_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undercroft.sandbox.bubblewrap.PACKAGES", (*PACKAGES, "no_such_package"))
    with pytest.raises(DeniedError, match="no_such_package"):
        launcher.start()


def test_where_user_namespaces_are_forbidden_the_first_job_says_so() -> None:
    """In a user namespace of its own, whose limit of further ones is set to none."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    program = (
        "from undercroft.sandbox import launcher\n"
        "from undercroft.errors import DeniedError\n"
        "with launcher.start() as reader:\n"
        "    try: reader.call('echo', {}, [])\n"
        "    except DeniedError as error: print(error)\n"
    )
    finished = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", sys.executable, "-c", program],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if "unshare" in finished.stderr:
        pytest.skip(f"no user namespace for the test: {finished.stderr}")
    assert finished.stdout.startswith("no sandbox: bwrap: "), finished
    assert "sysctl user.max_user_namespaces=1000" in finished.stdout
    assert "--no-sandbox" in finished.stdout


@pytest.fixture
def readable_copy() -> Iterator[Path]:
    """Undercroft and what readers need, where everybody may read them."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; the other tests show that this user can")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = subprocess.run([SYSTEM_PYTHON, "-V"], capture_output=True, text=True, check=False)
    if not found.stdout.startswith(f"Python {version}."):
        pytest.skip(f"needs the system's own Python {version}, which every user may read")
    folder = Path(tempfile.mkdtemp(prefix="undercroft-nobody-"))
    try:
        ignore = shutil.ignore_patterns("__pycache__")
        packages = Path(sysconfig.get_path("purelib"))
        shutil.copytree(Path(undercroft.__file__).parent, folder / "undercroft", ignore=ignore)
        for name in PACKAGES[1:]:
            shutil.copytree(packages / name, folder / name, ignore=ignore)
        shutil.copy(hostile_jobs.__file__, folder)
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def test_a_normal_user_gets_the_same_sandbox(readable_copy: Path) -> None:
    finished = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--",
         SYSTEM_PYTHON, "-B", "-c", PROGRAM],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(readable_copy)},
        cwd="/", capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert finished.stdout == f"{NOBODY} {{'hello': 1}} EPERM\n", finished
