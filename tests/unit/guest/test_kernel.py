"""What the helper asks of a kernel, against folders, and against this kernel where root may."""

import ast
import os
import threading

import pytest
from channelpair import HELPER, helper


def test_the_port_is_found_by_its_link_or_by_its_name_in_sysfs(tmp_path):
    assert helper.find_port(root=str(tmp_path)) is None
    for port, name in (("vport0p1", "org.qemu.guest_agent.0"), ("vport0p2", helper.PORT_NAME)):
        folder = tmp_path / "sys/class/virtio-ports" / port
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
    (tmp_path / "sys/class/virtio-ports/vport0p0").mkdir()
    assert helper.find_port(root=str(tmp_path)) == f"{tmp_path}/dev/vport0p2"
    link = tmp_path / "dev/virtio-ports" / helper.PORT_NAME
    link.parent.mkdir(parents=True)
    link.touch()
    assert helper.find_port(root=str(tmp_path)) == str(link)


def test_the_requests_numbers_are_those_of_the_kernels_headers():
    write, size, kind = 1, 8, ord("R")
    assert helper.random_requests("x86_64") == (write << 30 | size << 16 | kind << 8 | 3, kind << 8 | 7)
    assert helper.random_requests("ppc64le") == (
        4 << 29 | size << 16 | kind << 8 | 3,
        1 << 29 | kind << 8 | 7,
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root may credit")
def test_this_kernel_takes_a_seed_and_draws_a_new_key_from_it():
    assert helper.Kernel().credit(os.urandom(32)) is True


def test_a_kernel_without_the_ioctls_or_the_device_has_not_taken_the_seed(tmp_path):
    kernel = helper.Kernel(str(tmp_path))
    assert kernel.credit(b"s" * 32) is False
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/urandom").touch()
    assert kernel.credit(b"s" * 32) is False


def test_stale_bytes_are_read_away_from_a_generator_that_gives_them_slowly(tmp_path):
    (tmp_path / "dev").mkdir()
    path = tmp_path / "dev/hwrng"
    kernel = helper.Kernel(str(tmp_path))
    assert kernel.drain() == 0
    path.write_bytes(b"x" * 40)
    assert kernel.drain() == 40
    path.unlink()
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)
    os.write(end, b"x" * 32)
    more = threading.Timer(0.02, os.write, (end, b"y" * 104))
    more.start()
    assert kernel.drain(most_s=30) == 128
    more.join()
    assert kernel.drain() == 8
    os.close(end)


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A kernel whose generator is a FIFO that nobody fills, and that waits whatever it was opened with.

    The kernel's own does where the host gives nothing: its reader holds the device's lock.
    """
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/hwrng")
    end = os.open(tmp_path / "dev/hwrng", os.O_RDWR)
    monkeypatch.setattr(helper.os, "O_NONBLOCK", 0)
    kernel = helper.Kernel(str(tmp_path))
    yield kernel, end
    ended(kernel, end)
    os.close(end)


def ended(kernel, end):
    """Give the reader that was left behind what it waits for."""
    while not kernel.reader.done.acquire(timeout=0.01):
        os.write(end, b"x")
    kernel.reader.done.release()


def test_a_generator_that_does_not_answer_is_left_alone_with_one_reader_at_most(silent):
    kernel, _ = silent
    before = threading.active_count()
    assert [kernel.drain(most_s=0.05) for _ in range(3)] == [0, 0, 0]
    assert threading.active_count() == before + 1


def test_what_a_reader_that_was_left_behind_reads_later_counts_for_no_seed(silent):
    kernel, end = silent
    assert kernel.drain(most_s=0.05) == 0
    os.write(end, b"s" * 64)
    ended(kernel, end)
    assert kernel.reader.count >= 64, "it did read them"
    os.write(end, b"s" * 40)
    assert kernel.drain(wanted=40, most_s=30) == 40


def test_a_generator_that_answers_again_is_drained_whole_after_the_reader_that_waited_for_it(silent):
    kernel, end = silent
    assert kernel.drain(wanted=64, most_s=0.05) == 0
    os.write(end, b"s" * (64 + 40))
    assert kernel.drain(wanted=40, most_s=30) == 40


def test_who_has_taken_all_threads_keeps_no_guest_from_its_seed(silent, monkeypatch):
    kernel, end = silent
    with monkeypatch.context() as none_left:
        none_left.setattr(helper.Reader, "start", _no_thread)
        assert kernel.drain() == 0
    os.write(end, b"s" * 40)
    assert kernel.drain(wanted=40, most_s=30) == 40


def _no_thread(reader):
    raise RuntimeError("can't start new thread")


def test_a_kernel_that_is_not_seeded_is_not_waited_for(monkeypatch):
    def not_yet(size, flags=0):
        assert flags & os.GRND_NONBLOCK, "it would wait"
        raise BlockingIOError

    monkeypatch.setattr(helper.os, "getrandom", not_yet)
    monkeypatch.setattr(helper.os, "urandom", not_yet)
    drawn = {helper.draw(32) for _ in range(8)}
    assert len(drawn) == 8
    assert {len(each) for each in drawn} == {32}


def test_a_python_without_getrandom_draws_all_the_same(monkeypatch):
    monkeypatch.delattr(helper.os, "getrandom")
    assert len({helper.draw(16) for _ in range(8)}) == 8


def test_the_boot_id_is_sixteen_bytes():
    assert len(helper.Kernel().boot()) == 16


def test_the_helper_is_python_3_6_and_imports_the_standard_library_alone():
    tree = ast.parse(HELPER.read_text(), feature_version=(3, 6))
    nodes = list(ast.walk(tree))
    imported = {
        name.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for name in node.names
    }
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported <= set(helper.sys.stdlib_module_names)
    newer = {
        "removeprefix",
        "removesuffix",
        "run",
        "capture_output",
        "cached_property",
        "monotonic_ns",
        "prod",
    }
    called = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not called & newer
