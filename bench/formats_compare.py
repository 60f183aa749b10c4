"""Who reads which format right, wrong, or not: small images of each, the same files in all of them.

    python bench/formats_compare.py [--guestfs] [NAME...]

As root (loop mounts, in mount namespaces of its own). Each tool is asked for the content of every file, in a
process of its own with a time limit, and its digests are compared with those of what was written:

    right    every file, byte for byte
    wrong    it said nothing, and a file was missing or held something else
    part     it read some files right, and said that it could not read the others
    no       it could not open the image, and said so, or found no file at all

guestfish runs one appliance for all images, under TCG without KVM (some minutes): only with --guestfs.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import btrfsimages  # noqa: E402 - what the tests have
import containerimages  # noqa: E402
import extimages  # noqa: E402
import luksimages  # noqa: E402
import xfsimages  # noqa: E402
from diskimages import run, wrap_gpt  # noqa: E402
from machineimages import debian_tree, make_filesystem, packages  # noqa: E402

PEERS = Path(__file__).resolve().parent / "peers"
TOOLS = {
    "undercroft": [sys.executable, str(PEERS / "undercroft_read.py")],
    "pytsk3": [sys.executable, str(PEERS / "tsk_read.py")],
    "dissect": [sys.executable, str(PEERS / "dissect_read.py")],
}
GUESTFISH = "guestfish"
SIZE_BYTES = 320 << 20
LIMIT_S = 240
MISSING = "missing"
"""What a peer says of a file that is not there, in its words."""

APPLIANCE_LIMIT_S = 1800

FILL = r"""
import shutil, sys
shutil.copytree(sys.argv[1], ".", symlinks=True, dirs_exist_ok=True)
"""
LATE = r"""
import os
for number in range(30):
    with open(f"srv/late{number:02}", "wb") as file:
        file.write(b"late %d " % number * 3000)
        file.flush()
        os.fsync(file.fileno())
"""
"""What a guest wrote and fsynced right before it was cut off: it lies in the log alone."""


class Images:
    """The images, made in a folder. Each is a function that returns the image's path."""

    def __init__(self, folder):
        self._folder = folder
        self.tree = _tree(folder / "tree")
        self._kept = {}

    def makers(self) -> dict[str, Callable[[], Path]]:
        """Return how each image is made, by what it is called in the table."""
        return {
            "ext4": self._ext4,
            "ext4, dirty journal": lambda: self._disk("ext4-dirty", self._dirty_ext4),
            "XFS": lambda: self._disk("xfs", lambda: xfsimages.write(self._xfs("xfs"), FILL, str(self.tree))),
            "XFS version 4": lambda: self._disk("xfs4", self._xfs4),
            "XFS, dirty log": lambda: self._disk("xfs-dirty", self._dirty_xfs),
            "btrfs": lambda: self._disk("btrfs", lambda: self._btrfs("btrfs")),
            "btrfs, zstd": lambda: self._disk(
                "btrfs-zstd", lambda: self._btrfs("zstd", "compress-force=zstd")
            ),
            "btrfs, lzo": lambda: self._disk("btrfs-lzo", lambda: self._btrfs("lzo", "compress-force=lzo")),
            "btrfs, log tree": lambda: self._disk("btrfs-dirty", self._dirty_btrfs),
            "ext4 in LUKS2": lambda: self._luks("luks2", luksimages.encrypted2),
            "ext4 in LUKS1": lambda: self._luks("luks1", luksimages.encrypted1),
            **{
                f"{kind} ({options.get('subformat', 'dynamic')})": lambda kind=kind: self._container(kind)
                for kind, (_format, options) in containerimages.QEMU_IMAGES.items()
                if kind in {"vmdk", "vmdk-flat", "vmdk-split", "vmdk-stream", "vhd", "vhdx", "vdi"}
            },
            "qcow2": lambda: self._converted("qcow2", "qcow2"),
            "qcow2, zstd": lambda: self._converted(
                "qcow2-zstd", "qcow2", "-c", "-o", "compression_type=zstd"
            ),
        }

    def expected(self, name):
        """Return what each file holds: path -> SHA-256."""
        wanted = {
            str(path.relative_to(self.tree)): _digest(path.read_bytes())
            for path in sorted(self.tree.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        if name.endswith((", dirty log", ", log tree", ", dirty journal")):
            late = {f"srv/late{number:02}": _digest(b"late %d " % number * 3000) for number in range(30)}
            wanted.update(late)
        return wanted

    def _ext4(self):
        return self._disk(
            "ext4", lambda: make_filesystem(self.tree, self._folder / "ext4.fs", size_bytes=96 << 20)
        )

    def _dirty_ext4(self):
        image = make_filesystem(self.tree, self._folder / "dirty.fs", size_bytes=96 << 20)
        copy = self._folder / "dirty.copy"
        script = f'"{sys.executable}" -c "$PROGRAM"; cp --sparse=always "$IMAGE" "{copy}"'
        extimages.in_mount(image, script, PROGRAM=LATE)
        return copy

    def _xfs(self, name):
        return xfsimages.make(self._folder / f"{name}.fs", size=str(SIZE_BYTES))

    def _xfs4(self):
        return xfsimages.make_v4(self._folder / "xfs4.fs", self.tree, size=str(SIZE_BYTES))

    def _dirty_xfs(self):
        image = xfsimages.write(self._xfs("xfs-dirty"), FILL, str(self.tree))
        return xfsimages.dirty(image, LATE)

    def _btrfs(self, name, *options):
        images = btrfsimages.make(self._folder, size_mib=SIZE_BYTES >> 20, name=f"{name}.fs")
        btrfsimages.write(images, FILL, ",".join(("rw", *options)), str(self.tree))
        return images[0]

    def _dirty_btrfs(self):
        images = [self._btrfs("btrfs-log")]
        return btrfsimages.write_dirty(images, LATE)[0]

    def _luks(self, name, encrypted):
        plain = make_filesystem(self.tree, self._folder / f"{name}.plain", size_bytes=96 << 20)
        return self._disk(name, lambda: encrypted(plain, self._folder / f"{name}.fs"))

    def _container(self, kind):
        return containerimages.make(
            kind, self._kept_ext4(), self._folder / f"{kind}.{containerimages.suffix(kind)}"
        )

    def _converted(self, name, image_format, *options):
        image = self._folder / f"{name}.{image_format}"
        run("qemu-img", "convert", "-f", "raw", "-O", image_format, *options, self._kept_ext4(), image)
        return image

    def _kept_ext4(self):
        if "ext4" not in self._kept:
            self._kept["ext4"] = self._folder / "ext4.raw"
            if not self._kept["ext4"].exists():
                self._ext4()
        return self._kept["ext4"]

    def _disk(self, name, make):
        """Put a filesystem into the one partition of a disk."""
        return wrap_gpt(self._folder / f"{name}.raw", [make()])


def main():
    """Print the table."""
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    tools = dict(TOOLS)
    with tempfile.TemporaryDirectory() as folder:
        images = Images(Path(folder))
        makers = {name: make for name, make in images.makers().items() if not names or name in names}
        made = {name: _made(name, make) for name, make in makers.items()}
        rows = {
            name: {tool: _asked(images, name, path, tool) for tool in tools} for name, path in made.items()
        }
        columns = list(tools)
        if "--guestfs" in sys.argv and shutil.which(GUESTFISH):
            # Its keys come from a terminal or by argument: it is not asked for what is encrypted.
            plain = {name: path for name, path in made.items() if path and "LUKS" not in name}
            answers = _ask_guestfish(images, plain)
            columns.append(GUESTFISH)
            for name, row in rows.items():
                row[GUESTFISH] = answers.get(name, ("not asked" if "LUKS" in name else "no", "no answer"))
    print(f"{datetime.now(UTC):%Y-%m-%d}\n")
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, answers in rows.items():
        print(f"| {name} | {' | '.join(answers[tool][0] for tool in columns)} |")
    for name, answers in rows.items():
        for tool, (word, why) in answers.items():
            if word != "right":
                print(f"{name}, {tool}: {word}: {why}", file=sys.stderr)


def _made(name, make):
    try:
        return make()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"{name}: could not be made here: {str(error)[-300:]}", file=sys.stderr)
        return None


def _asked(images, name, path, tool):
    """Return (word, why) for one tool and image."""
    if path is None:
        return "not made", ""
    wanted = images.expected(name)
    try:
        done = subprocess.run(
            [*TOOLS[tool], str(path), luksimages.PASSPHRASE.decode(), *_parts(path)],
            input="\0".join(wanted),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "no", f"not done after {LIMIT_S} s"
    last = (done.stdout.splitlines() or [""])[-1]
    if done.returncode or not last.startswith("{"):
        return "no", (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
    return _judged(json.loads(last), wanted)


def _judged(answer, wanted):
    """Return (word, why): what a tool said of each file, a digest or "!" and its error."""
    errors = {path: said for path, said in answer.items() if said.startswith("!")}
    right = sum(answer.get(path) == digest for path, digest in wanted.items())
    silent = [path for path, digest in wanted.items() if path not in errors and answer.get(path) != digest]
    if right == len(wanted):
        return "right", ""
    if not errors and not any(said != MISSING for said in answer.values()):
        return "no", "it has none of the files"
    if silent:
        return "wrong", f"{len(silent)} of {len(wanted)} files, such as {silent[0]}"
    first = next(iter(errors.items()))
    return ("part" if right else "no"), f"{right} of {len(wanted)} files; {first[0]}: {first[1][1:200]}"


def _parts(path):
    """Return further files that an image lies in."""
    return sorted(str(other) for other in path.parent.glob(f"{path.stem}-*.vmdk") if path.suffix == ".vmdk")


def _ask_guestfish(images, made):
    """Ask one appliance for all images: each is mounted in turn, its files' digests printed."""
    script = ["run"]
    for number, name in enumerate(made):
        device = f"/dev/sd{_letters(number)}1"
        script += [f'echo "image {number}"']
        script.append(f'-mount-options "{"ro,nouuid" if "XFS" in name else "ro"}" {device} /')
        for path in images.expected(name):
            script += [f'echo "file {path}"', f'-checksum sha256 "/{path}"']
        script.append("-umount-all")
    drives = [word for name, path in made.items() for word in ("--format=" + _format(path), "-a", str(path))]
    environment = {**os.environ, "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    done = subprocess.run(
        [GUESTFISH, "--ro", *drives],
        input="\n".join(script) + "\n",
        capture_output=True,
        text=True,
        timeout=APPLIANCE_LIMIT_S,
        env=environment,
        check=False,
    )
    answers, current, path = {}, None, ""
    names = list(made)
    for line in done.stdout.splitlines():
        if line.startswith("image "):
            current = answers.setdefault(names[int(line.split()[1])], {})
        elif line.startswith("file "):
            path = line.removeprefix("file ")
            current[path] = "!no answer"
        elif path and current is not None and line:
            current[path] = line
    said = (done.stderr.strip().splitlines() or [""])[-1]
    judged = {
        name: _judged(answers.get(name, {}), images.expected(name)) for name in made if answers.get(name)
    }
    return judged or dict.fromkeys(made, ("no", said))


def _format(path):
    return {"raw": "raw", "qcow2": "qcow2", "vhd": "vpc"}.get(path.suffix[1:], path.suffix[1:])


def _letters(number):
    return chr(97 + number) if number < 26 else f"{chr(96 + number // 26)}{chr(97 + number % 26)}"


def _tree(folder):
    """Fill a folder with what a machine has, and with files of all shapes."""
    numbers = random.Random(7)
    text = b"a line that repeats itself, as most texts do\n"
    extra = {
        "srv/random.bin": numbers.randbytes(700_001),
        "srv/text.log": text * 30_000,
        "srv/empty": b"",
        "srv/inline": b"few bytes",
        "srv/deep/er/and/deeper/still/file": b"x" * 5000,
        "srv/" + "n" * 200: b"a long name",
        **{f"srv/many/file{number:04}": b"%d" % number for number in range(300)},
    }
    debian_tree(folder, packages(20), extra)
    with (folder / "srv/sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"the end")
    (folder / "srv/link").symlink_to("random.bin")
    return folder


def _digest(data):
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
