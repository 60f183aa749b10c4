"""Which snapshot a QEMU process was started from, from its command line."""

from pathlib import Path

import pytest

from undercroft.adapters.libvirt.qemuprocess import loaded_snapshot


def process(folder: Path, *arguments: str, pid: str = "42") -> str:
    (folder / "web01.pid").write_text(pid)
    (folder / "42").mkdir(exist_ok=True)
    (folder / "42" / "cmdline").write_bytes(b"".join(argument.encode() + b"\0" for argument in arguments))
    return loaded_snapshot("web01", folder, folder)


def test_a_revert_is_told_by_what_the_process_loads(tmp_path: Path) -> None:
    assert process(tmp_path, "qemu", "-name", "web01", "-loadvm", "before upgrade", "-S") == "before upgrade"


def test_a_start_loads_nothing(tmp_path: Path) -> None:
    assert process(tmp_path, "qemu", "-name", "guest=-loadvm", "-S") == ""
    assert process(tmp_path, "qemu", "-loadvm") == ""


@pytest.mark.parametrize("pid", ["", "x", "43"])
def test_a_process_that_cannot_be_seen_says_nothing(tmp_path: Path, pid: str) -> None:
    assert process(tmp_path, "qemu", "-loadvm", "s", pid=pid) == ""
    assert loaded_snapshot("other", tmp_path, tmp_path) == ""
