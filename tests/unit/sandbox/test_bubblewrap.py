"""The command line, and the words for a start that failed."""

import os
import sys
from pathlib import Path

import pytest

from undercroft.errors import DeniedError, OperationError
from undercroft.sandbox import bubblewrap


def bound(command: list[str]) -> set[str]:
    return {command[at + 1] for at, word in enumerate(command) if word == "--ro-bind"}


def test_only_the_interpreter_and_named_packages_are_shown() -> None:
    command = bubblewrap.command(3, "undercroft.sandbox.jobs")
    shown = bound(command)
    assert os.path.realpath(sys.executable) in shown
    assert {"undercroft", "zstandard", "google_crc32c"} <= {os.path.basename(path) for path in shown}
    for path in (
        "/",
        "/etc",
        "/usr",
        "/home",
        "/root",
        "/proc",
        "/dev",
        os.path.expanduser("~"),
        os.getcwd(),
    ):
        assert path not in shown
    assert not {"--bind", "--dev-bind", "--proc", "--dev", "--share-net"} & set(command)


def test_a_job_modules_folder_is_shown_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_jobs.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    path = str(tmp_path / "other_jobs.py")
    assert path in bound(bubblewrap.command(3, "other_jobs"))
    assert path not in bound(bubblewrap.command(3, "undercroft.sandbox.jobs"))


def test_every_namespace_is_new_and_nothing_is_kept() -> None:
    before_the_program = bubblewrap.command(3, "undercroft.sandbox.jobs")
    options = before_the_program[: before_the_program.index("--")]
    namespaces = {"user", "net", "pid", "ipc", "uts"}
    assert {f"--unshare-{name}" for name in namespaces} | {"--unshare-cgroup-try"} <= set(options)
    assert {"--clearenv", "--new-session", "--die-with-parent", "--as-pid-1"} <= set(options)
    assert options[options.index("--cap-drop") + 1] == "ALL"
    assert options.index("--remount-ro") > max(at for at, word in enumerate(options) if word == "--ro-bind")


@pytest.mark.parametrize(
    ("path", "value", "cure"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor profile for bwrap"),
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=1000"),
        ("", "", "allow unprivileged user namespaces"),
    ],
)
def test_a_kernel_that_forbids_it_is_told_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, path: str, value: str, cure: str
) -> None:
    monkeypatch.setattr(bubblewrap, "_setting", lambda asked: value if asked == path else "")
    error = bubblewrap.not_started("bwrap: setting up uid map: Permission denied")
    assert isinstance(error, DeniedError)
    assert "setting up uid map: Permission denied" in str(error)
    assert cure in str(error)
    assert "--no-sandbox" in str(error)


def test_a_server_that_fails_is_the_hosts_fault_not_a_refusal() -> None:
    error = bubblewrap.not_started("Traceback ...\nImportError: no module")
    assert isinstance(error, OperationError)
    assert "ImportError: no module" in str(error)
    assert "said nothing" in str(bubblewrap.not_started(""))


def test_a_bubblewrap_that_cannot_be_run_is_told() -> None:
    assert "apt install bubblewrap" in str(bubblewrap.not_installed(FileNotFoundError(2, "No such file")))
    assert "Permission denied" in str(bubblewrap.not_installed(PermissionError(13, "Permission denied")))
