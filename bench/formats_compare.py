"""Who reads which format right, wrong, or not: small images of each, the same files in all of them.

    python bench/formats_compare.py [--guestfs] [--keep FILE] [--limit SECONDS] [NAME...]

As root (loop mounts, in mount namespaces of its own). Each tool is asked for the content of every file, in a
process of its own with a time limit, and its digests are compared with those of what was written:

    right    every file, byte for byte
    wrong    it said nothing, and a file was missing or held something else
    part     it read some files right, and said that it could not read the others
    no       it could not open the image, and said so, or found no file at all

With --guestfs guestfish is asked for the files, and virt-inspector for the packages, in an appliance for each
image, under TCG without KVM: a minute each. Keep the answers (--keep), and a run that is cut off goes on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from formatimages import PACKAGES, PASSPHRASE, Images

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import guestfsanswers
from machineimages import packages

PEERS = Path(__file__).resolve().parent / "peers"
TOOLS = {
    "undercroft": [sys.executable, str(PEERS / "undercroft_read.py")],
    "pytsk3": [sys.executable, str(PEERS / "tsk_read.py")],
    "dissect": [sys.executable, str(PEERS / "dissect_read.py")],
}
GUESTFISH, INSPECTOR = "guestfish", "virt-inspector"
LIMIT_S = 240
MISSING = "missing"
"""What a peer says of a file that is not there, in its words."""

APPLIANCE_LIMIT_S = 600
"""Of one question; without KVM one takes half a minute on an idle machine."""


def main():
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME", help="of a format, as the table has it")
    arguments.add_argument("--guestfs", action="store_true", help="ask guestfish and virt-inspector too")
    arguments.add_argument("--keep", type=Path, help="where each answer goes as it comes; those in it stand")
    arguments.add_argument("--limit", type=int, default=APPLIANCE_LIMIT_S, help="seconds for an appliance")
    asked = arguments.parse_args()
    tools = dict(TOOLS)
    if asked.guestfs and (why := guestfsanswers.missing()):
        print(f"guestfish and virt-inspector are not asked: {why}", file=sys.stderr)
    elif asked.guestfs:
        tools |= {GUESTFISH: None, INSPECTOR: None}
    answers = Answers(asked.keep)
    with tempfile.TemporaryDirectory() as folder:
        images = Images(Path(folder))
        for name, make in images.makers().items():
            if asked.names and name not in asked.names:
                continue
            if all((name, tool) in answers.known for tool in tools):
                continue
            path = _made(name, make)
            for tool in tools:
                if (name, tool) not in answers.known:
                    answers.add(name, tool, *_asked(images, name, path, tool, asked.limit))
    _print_table(
        answers.known, [name for name in images.makers() if (name, "undercroft") in answers.known], tools
    )


class Answers:
    """What was answered: (format, tool) -> (word, why); kept in a file as it comes, where one is given."""

    def __init__(self, path):
        self._path = path
        self.known = {}
        if path and path.exists():
            for line in path.read_text().splitlines():
                name, tool, word, why = json.loads(line)
                self.known[name, tool] = word, why

    def add(self, name, tool, word, why):
        """Note an answer."""
        self.known[name, tool] = word, why
        if self._path:
            with self._path.open("a") as file:
                file.write(json.dumps([name, tool, word, why]) + "\n")
        print(f"{name}, {tool}: {word} {why}", file=sys.stderr, flush=True)


def _print_table(known, names, tools):
    print(f"{datetime.now(UTC):%Y-%m-%d}\n")
    print(f"| | {' | '.join(tools)} |\n|---|{'---|' * len(tools)}")
    for name in names:
        print(f"| {name} | {' | '.join(known[name, tool][0] for tool in tools)} |")


def _made(name, make):
    try:
        return make()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"{name}: could not be made here: {str(error)[-300:]}", file=sys.stderr)
        return None


def _asked(images, name, path, tool, limit_s):
    """Return (word, why) for one tool and image."""
    if path is None:
        return "not made", ""
    wanted = images.expected(name)
    try:
        if tool == GUESTFISH:
            return _judged(
                guestfsanswers.digests(_for_guestfs(name, path), list(wanted), limit_s=limit_s), wanted
            )
        if tool == INSPECTOR:
            return _judged_packages(guestfsanswers.packages(_for_guestfs(name, path), limit_s=limit_s))
    except TimeoutError as error:
        return str(error), ""
    except OSError as error:
        return "no", str(error)
    try:
        done = subprocess.run(
            [*TOOLS[tool], str(path), PASSPHRASE, *_parts(path)],
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


def _for_guestfs(name, path):
    device = "/dev/vg/root" if "LVM" in name else "/dev/sda1"
    options = "ro,nouuid" if "XFS" in name else "ro"
    secret = PASSPHRASE if "LUKS" in name else ""
    return guestfsanswers.Asked(path, _format(path), device, secret, options)


def _judged_packages(found):
    """Return (word, why) for a list of packages."""
    wanted = {(package.name, package.version) for package in packages(PACKAGES)}
    if found == wanted:
        return "right", ""
    return (
        ("wrong", f"{len(found & wanted)} of {len(wanted)} packages")
        if found
        else ("no", "it has no package")
    )


def _format(path):
    return {"raw": "raw", "qcow2": "qcow2", "vhd": "vpc"}.get(path.suffix[1:], path.suffix[1:])


if __name__ == "__main__":
    main()
