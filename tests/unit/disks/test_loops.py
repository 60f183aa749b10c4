"""An image file that the guest's fstab mounts is opened where software may lie in it; the rest is told."""

import pytest
from diskimages import run
from memorymachines import MemoryFileSystem, machine_of, uuid_of

from undercroft.disks.machine import Machine

ROOT = uuid_of(1)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("image")
    (folder / "tree" / "bin").mkdir(parents=True)
    (folder / "tree" / "bin" / "tool").write_text("tool")
    run("mksquashfs", folder / "tree", folder / "image", "-quiet", "-no-progress")
    return (folder / "image").read_bytes()


def machine(line: str, image: bytes) -> Machine:
    files = {
        "etc/os-release": b"ID=debian\n",
        "etc/fstab": f"UUID={ROOT} / ext4\n{line}\n".encode(),
        "opt/": b"",
        "srv/tool.squashfs": image,
        "srv/folder/": b"",
    }
    return machine_of(vda=MemoryFileSystem(files, uuid=ROOT))


def test_an_image_is_mounted_where_software_may_lie(image: bytes) -> None:
    found = machine("/srv/tool.squashfs /opt squashfs loop,ro 0 0", image)
    assert found.coverage.complete, found.coverage
    assert found.tree is not None
    assert found.tree.read(b"/opt/bin/tool", 10) == b"tool"


def test_an_image_elsewhere_is_a_note(image: bytes) -> None:
    found = machine("/srv/tool.squashfs /mnt/tool squashfs loop 0 0", image)
    assert found.coverage.complete
    assert "is the image /srv/tool.squashfs, which was not opened" in found.coverage.notes[-1]


@pytest.mark.parametrize(
    ("line", "content", "reason"),
    [
        ("/srv/tool.squashfs /opt squashfs loop,offset=512", None, "a part of an image is not read"),
        ("/srv/tool.squashfs /opt squashfs loop", b"no image" * 100, "no known filesystem"),
        ("/srv/tool.squashfs /opt squashfs loop", b"", "it has 0 bytes"),
        ("/srv/tool.squashfs /opt squashfs loop", b"hsqs" + bytes(200), "squashfs"),
        ("/srv/folder /opt squashfs loop", None, "which is on none of the given disks"),
        ("/srv/gone.img /opt ext4 loop", None, "which is on none of the given disks"),
    ],
)
def test_one_that_cannot_be_read_is_a_problem(
    line: str, content: bytes | None, reason: str, image: bytes
) -> None:
    found = machine(line, image if content is None else content)
    assert len(found.coverage.problems) == 1
    assert reason in found.coverage.problems[0]
    assert found.unread == (b"/opt",)


def test_images_are_bounded(image: bytes) -> None:
    lines = "\n".join(f"/srv/tool.squashfs /opt/{number} squashfs loop" for number in range(20))
    problems = machine(lines, image).coverage.problems
    assert len(problems) == 4
    assert all("it is one of more than 16" in problem for problem in problems)
