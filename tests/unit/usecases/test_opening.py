"""Each thing that can be wrong with a file, said in one line; and the signs that it changed."""

import fcntl
import os
import socket
import struct
from pathlib import Path

import pytest

from undercroft.errors import DeniedError, InputError, NotFoundError
from undercroft.usecases.opening import open_file
from undercroft.usecases.target import NamedFile, from_images, split_state


def test_what_is_no_image_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    with listener:
        for name, kind, text in [
            ("missing", NotFoundError, "no such file"),
            ("empty/child", NotFoundError, "no such file"),
            ("", InputError, "a directory"),
            ("empty", InputError, "0 bytes"),
            ("fifo", InputError, "neither a file nor a block device"),
            ("socket", InputError, "neither a file nor a block device"),
            ("loop", InputError, "loop"),
        ]:
            with pytest.raises(kind, match=text):
                open_file(NamedFile(str(tmp_path / name)))
    with pytest.raises(InputError, match="neither a file nor a block device"):
        open_file(NamedFile("/dev/null"))


def test_what_is_no_image_is_not_opened_to_find_that_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may put a link in an image's place would have root start a watchdog, or rewind a tape."""
    (tmp_path / "link.img").symlink_to("/dev/full")
    os.mkfifo(tmp_path / "fifo.img")
    opened: list[int] = []
    whole = os.open

    def watched(path: str, flags: int) -> int:
        opened.append(flags)
        return whole(path, flags)

    monkeypatch.setattr(os, "open", watched)
    for name in ("link.img", "fifo.img"):
        with pytest.raises(InputError, match="neither a file nor a block device"):
            open_file(NamedFile(str(tmp_path / name)))
    assert opened
    assert all(flags & os.O_PATH for flags in opened)


def test_a_file_that_may_not_be_read_is_denied_with_the_cure(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0)
    tmp_path.chmod(0o755)
    child = os.fork() if os.geteuid() == 0 else -1
    if child < 0:
        with pytest.raises(DeniedError, match="no permission"):
            open_file(NamedFile(str(secret)))
        return
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            open_file(NamedFile(str(secret)))
        except DeniedError as error:
            os._exit(0 if "no permission" in str(error) or "no such" in str(error) else 2)
        except BaseException:
            os._exit(3)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_written_grown_or_shrunk_file_has_changed(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"0123456789")
    for change in (b"9876543210", b"0123456789+", b"012"):
        opened = open_file(NamedFile(str(image)))
        assert not opened.changed()
        os.utime(image, ns=(0, 0))
        image.write_bytes(change)
        os.utime(image, ns=(0, 0))  # the content's times can be forged, the change time can't
        assert opened.changed()
        assert not opened.refreshed().changed()
        os.close(opened.descriptor)


def test_an_image_that_qemu_holds_for_writing_is_noticed(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))
    with image.open("r+b") as writer:
        before = open_file(NamedFile(str(image)))
        # As QEMU does: a shared lock on the byte of each permission that it holds (here: write).
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 101, 1, 0))
        during = open_file(NamedFile(str(image)))
    assert (before.in_use, during.in_use) == (False, True)
    os.close(before.descriptor)
    os.close(during.descriptor)


def test_a_reference_is_an_image_and_a_state(tmp_path: Path) -> None:
    odd = tmp_path / "we@b.qcow2"
    odd.touch()
    assert split_state("web01.qcow2") == ("web01.qcow2", None)
    assert split_state("web01.qcow2@before-upgrade") == ("web01.qcow2", "before-upgrade")
    assert split_state("web01.qcow2@") == ("web01.qcow2", "current")
    assert split_state("@before") == ("", "before")
    assert split_state(str(odd)) == (str(odd), None)
    assert split_state(f"{odd}@1") == (str(odd), "1")
    plain = odd.with_name("plain.qcow2")
    plain.touch()
    assert split_state(f"{plain}@subvolume @before") == (str(plain), "subvolume @before")
    assert split_state(f"{odd}@subvolume @before") == (str(odd), "subvolume @before")
    assert split_state("gone@subvolume @before") == ("gone@subvolume ", "before")


def test_a_disk_is_given_once() -> None:
    with pytest.raises(InputError, match="named twice"):
        from_images(["a.raw", "a.raw"])
    with pytest.raises(InputError, match="no disk was named"):
        from_images([])


def test_a_file_that_an_image_picked_from_a_folder_is_opened_only_where_it_is_no_link(tmp_path: Path) -> None:
    """Whoever may write to the folder can put a link in the file's place once it was looked at."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "extent").symlink_to(tmp_path / "secret")
    path = str(tmp_path / "extent")
    os.close(open_file(NamedFile(path)).descriptor)
    with pytest.raises(InputError, match="a symbolic link where none may be"):
        open_file(NamedFile(path, no_link=True))
