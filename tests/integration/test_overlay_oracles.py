"""Overlays against the kernel's: every file of the merged tree equal, after all that a guest may do to it."""

import sys
from pathlib import Path

import extimages
import pytest
from diskimages import opened, run
from extimages import View, differences, parse_view

from undercroft.disks import formats
from undercroft.disks.detect import detect
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.overlay import Layer, Overlay
from undercroft.errors import UnsupportedError

pytestmark = [
    pytest.mark.skipif(bool(extimages.mounting_problem()), reason=extimages.mounting_problem()),
    pytest.mark.skipif(
        "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"), reason="needs overlayfs"
    ),
]

MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
SIZE_BYTES = 320 << 20

FILL = """
import os
def put(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write(text)
for layer in ("low", "mid"):
    for number in range(30):
        put(f"{layer}/both/file-{number}", f"{layer} {number}")
        put(f"{layer}/both/{layer}-{number}", layer)
        put(f"{layer}/{layer}-alone/deep/{number}", layer)
    for name in ("gone", "replaced", "file-then-folder", "moved", "moved-far", "emptied"):
        put(f"{layer}/folders/{name}/inner/{layer}", name)
    put(f"{layer}/changed", layer)
    put(f"{layer}/deleted", layer)
    put(f"{layer}/kinds/{'file' if layer == 'low' else 'file/in-folder'}", layer)
    os.symlink(layer, f"{layer}/link")
os.mkdir("mid/opaque"), os.mkdir("low/opaque"), put("low/opaque/hidden", "x")
os.mkdir("low/opaque/inner"), os.mknod("mid/both/low-3", 0o20000, 0)
for folder in ("upper", "work", "merged"):
    os.mkdir(folder)
os.setxattr("mid/opaque", "PREFIX.overlay.opaque", b"y")
for name in ("gone", "stays", "inner/gone"):
    put(f"low/marked/{name}", "low")
    put(f"mid/marked/{name}", "")
    if name != "stays":
        os.setxattr(f"mid/marked/{name}", "PREFIX.overlay.whiteout", b"y")
for folder in ("mid", "mid/marked", "mid/marked/inner"):
    os.setxattr(folder, "PREFIX.overlay.opaque", b"x")
"""

CHANGE = """
import os, shutil
os.unlink("deleted"), os.unlink("both/mid-4"), os.unlink("both/file-1"), os.unlink("both/low-9")
open("changed", "a").write("more")
open("both/file-2", "w").write("new")
os.chmod("both/file-5", 0o600)
shutil.rmtree("folders/gone")
shutil.rmtree("folders/replaced"), os.mkdir("folders/replaced"), open("folders/replaced/new", "w").close()
shutil.rmtree("folders/file-then-folder"), open("folders/file-then-folder", "w").write("now a file")
for inner in os.listdir("folders/emptied"):
    shutil.rmtree("folders/emptied/" + inner)
os.makedirs("both/new/deeper"), open("both/new/deeper/file", "w").write("x")
os.mknod("console", 0o20600, os.makedev(5, 1))
if MOVES:
    os.rename("folders/moved", "folders/moved-here")
    os.rename("folders/moved-far", "both/moved-far")
    os.rename("both/moved-far/inner", "both/moved-far/inner2")
    os.mkdir("folders/moved-far"), open("folders/moved-far/other", "w").close()
    os.rename("mid-alone/deep", "mid-alone/deep2")
"""

SCRIPT = """
"$PYTHON" -c "$FILL"
O="lowerdir=mid:low,upperdir=upper,workdir=work,$OPTIONS"
mount -t overlay overlay -o "$O" merged
(cd merged; "$PYTHON" -c "$CHANGE")
umount merged
mount -t overlay overlay -o "$O" merged
(cd merged; "$PYTHON" -c "$SEE")
umount merged
"""


def made(kind: str, image: Path, options: str) -> View:
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    run(*MAKERS[kind], image)
    printed = extimages.in_mount(
        image,
        SCRIPT,
        PYTHON=sys.executable,
        FILL=FILL.replace("PREFIX", "user" if "userxattr" in options else "trusted"),
        CHANGE=f"MOVES = {'redirect_dir=on' in options}{CHANGE}",
        SEE=extimages.SEE_PROGRAM,
        OPTIONS=options,
    )
    return parse_view(printed)


def layers_of(filesystem: FileSystem) -> list[Layer]:
    found = []
    for name in (b"upper", b"mid", b"low"):
        node = filesystem.lookup(filesystem.root, name)
        assert node is not None
        found.append(Layer(filesystem, node))
    return found


CASES = [
    (kind, options) for kind in MAKERS for options in ("redirect_dir=on", "redirect_dir=off", "userxattr")
]
QUICK = (("ext4", "redirect_dir=on"), ("xfs", "redirect_dir=off"), ("btrfs", "userxattr"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.soak) for case in CASES],
)
def test_every_file_equals_what_the_kernel_shows(kind: str, options: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    expected = made(kind, image, options)
    with opened(image) as source:
        prefix = b"user.overlay." if options == "userxattr" else b"trusted.overlay."
        overlay = Overlay(layers_of(formats.open_filesystem(detect(source), source)), prefix)
        found = extimages.see_image(overlay)  # type: ignore[arg-type] # the same protocol
        assert differences(found, expected) == []
        assert len(found) > 150


def test_renamed_folders_are_unread_where_the_mount_does_not_follow_them(tmp_path: Path) -> None:
    made("ext4", tmp_path / "image", "redirect_dir=on")
    with opened(tmp_path / "image") as source:
        layers = layers_of(formats.open_filesystem(detect(source), source))
        overlay = Overlay(layers, follows_redirects=False)
        folders = overlay.lookup(overlay.root, b"folders")
        assert folders is not None
        with pytest.raises(UnsupportedError, match="does not follow"):
            overlay.lookup(folders, b"moved-here")


def test_content_in_another_layer_is_unread_and_never_the_empty_upper_file(tmp_path: Path) -> None:
    made("ext4", tmp_path / "image", "metacopy=on,redirect_dir=on")
    with opened(tmp_path / "image") as source:
        overlay = Overlay(layers_of(formats.open_filesystem(detect(source), source)))
        both = overlay.lookup(overlay.root, b"both")
        assert both is not None
        node = overlay.lookup(both, b"file-5")
        assert node is not None
        assert overlay.stat(node).size_bytes == len("mid 5")
        with pytest.raises(UnsupportedError, match="metacopy"):
            overlay.read(node, 100)
