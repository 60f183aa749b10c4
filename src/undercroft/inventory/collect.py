"""The inventory of one state of a machine, from its tree.

Guarantees: reads only what it names (release files, package databases, boot and log files, the folders
of unmanaged software), never the whole disk. What could not be read is added to the coverage: as a
problem where it may hold software, as a note where it does not. Raises for no content of the disk.

One damaged block stands in the way of many files: problems with the same cause become one, which names
the volume, a few of the things that it hides, and the cure.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from undercroft.disks.machine import Machine
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory import windows
from undercroft.inventory.database import Database
from undercroft.inventory.databases import read_databases
from undercroft.inventory.kernels import DefaultKernel, Kernels, read_default, read_kernels
from undercroft.inventory.languages import Languages, read_languages
from undercroft.inventory.lastrun import LastRunAnswer, find_last_run
from undercroft.inventory.osrelease import Release, read_release
from undercroft.inventory.otherpackages import OtherSoftware, find_other
from undercroft.inventory.unowned import UnownedExecutables, find_unowned
from undercroft.model.disk import Coverage, Volume
from undercroft.model.inventory import Boot, Inventory

HOSTNAME = b"/etc/hostname"
MAX_HOSTNAME_BYTES = 4096
MAX_HOSTNAME_CHARS = 253

MAX_HIDDEN = 4
"""Things that one cause hides, named before "and N more"."""
CHECKERS = {
    "ext": "e2fsck -n",
    "xfs": "xfs_repair -n",
    "btrfs": "btrfs check --readonly",
    "squashfs": "unsquashfs -lls",
    "iso9660": "isoinfo -l -i",
    "lvm": "pvck",
    "md": "mdadm --examine",
    "ntfs": "ntfsfix -n",
    "vfat": "fsck.fat -n",
    "exfat": "fsck.exfat -n",
    "ufs": "fsck_ffs -n",
}
"""What tells more of a damage, by the word that each filesystem's reader begins its errors with."""

ENCRYPTED = "(fscrypt)"
"""What readers say of content that the guest encrypted file by file."""

_DAMAGE = re.compile(
    rf"(?P<hidden>.*?)(?: could not be read| are not all counted)?(?:: (?P<path>/.*?))?: "
    rf"(?P<cause>(?P<format>{'|'.join(CHECKERS)}):? .*)",
    re.DOTALL,
)
"""A problem that a filesystem's reader raised, below whatever asked for it."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Findings:
    """What the parts could not read."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def ask(self, what: str, read: Callable[[], Answer], fallback: Answer) -> Answer:
        """Return what `read` answers, or `fallback` and a problem where it cannot read."""
        try:
            return read()
        except (InputError, NotFoundError) as error:
            self.problems.append(f"{what}: {error}")
            return fallback


def collect(machine: Machine) -> Inventory:
    """Return what is installed in `machine`; empty and incomplete where it has no tree."""
    tree = machine.tree
    if tree is None:
        return Inventory(None, "", (), (), Boot(), 0, (), machine.coverage)
    findings = _Findings()
    release = findings.ask("operating system", lambda: read_release(tree), Release(None))
    packages = findings.ask("packages", lambda: read_databases(tree, release.families), Database())
    other = findings.ask("other software", lambda: find_other(tree), OtherSoftware((), (), ()))
    names = {package.name for package in packages.packages}
    owners = packages.find_owners
    kernels = findings.ask("kernels", lambda: read_kernels(tree, names, owners), Kernels(()))
    unowned = findings.ask(
        "executables", lambda: find_unowned(tree, find_owners=owners), UnownedExecutables()
    )
    languages = findings.ask(
        "packages of languages", lambda: read_languages(tree, owners, unowned.paths), Languages()
    )
    findings.problems += [*release.problems, *packages.problems, *other.problems]
    findings.problems += [*kernels.problems, *unowned.problems]
    if not packages.found and not other.managers and not packages.problems:
        findings.problems.append("no package database was found: what is installed is unknown")
    findings.notes += [*other.notes, *languages.notes]
    return Inventory(
        os=release.os,
        hostname=_hostname(tree, findings),
        packages=packages.packages + languages.packages,
        kernels=kernels.kernels,
        boot=_boot(tree, findings),
        unowned_executables=unowned.count,
        unowned_examples=unowned.examples,
        coverage=_extended(machine.coverage, findings),
    )


def _boot(tree: GuestTree, findings: _Findings) -> Boot:
    default = findings.ask("boot loader", lambda: read_default(tree), DefaultKernel())
    answer = findings.ask("logs", lambda: find_last_run(tree), LastRunAnswer(None))
    findings.notes += answer.notes
    last = answer.last
    return Boot(
        default_release=default.release,
        default_source=default.source if default.release else "",
        last_run_release=last.release if last else "",
        last_run_source=last.source if last else "",
    )


def _hostname(tree: GuestTree, findings: _Findings) -> str:
    """Return the first line of /etc/hostname that is no comment (hostname(5))."""
    try:
        text = tree.read(HOSTNAME, MAX_HOSTNAME_BYTES).decode("utf-8", "surrogateescape")
    except NotFoundError:
        return _computer_name(tree, findings)
    except InputError as error:
        findings.notes.append(f"the host name could not be read: {error}")
        return ""
    lines = (line.strip() for line in text.split("\n"))
    return next((line for line in lines if line and not line.startswith("#")), "")[:MAX_HOSTNAME_CHARS]


def _computer_name(tree: GuestTree, findings: _Findings) -> str:
    try:
        return windows.read_hostname(tree)[:MAX_HOSTNAME_CHARS]
    except InputError as error:
        findings.notes.append(f"the computer's name could not be read: {error}")
        return ""


def _extended(coverage: Coverage, findings: _Findings) -> Coverage:
    problems = (*coverage.problems, *_by_cause(findings.problems, coverage.volumes))
    return Coverage(coverage.volumes, problems, coverage.notes + tuple(findings.notes))


def _by_cause(problems: Sequence[str], volumes: Sequence[Volume]) -> list[str]:
    """Return `problems`, those that have one damage of a filesystem in common as one, where its first was."""
    hidden: dict[str, list[str]] = {}
    for problem in problems:
        if match := _DAMAGE.fullmatch(problem):
            hidden.setdefault(match["cause"], []).append(_hidden(match))
    mounted = [volume.name for volume in volumes if volume.mounts]
    place = f"{mounted[0]}: " if len(mounted) == 1 else ""  # of several, the path tells which
    merged: dict[str, None] = {}
    for problem in problems:
        match = _DAMAGE.fullmatch(problem)
        merged[f"{place}{_damage(match, hidden[match['cause']])}" if match else problem] = None
    return list(merged)


def _hidden(match: re.Match[str]) -> str:
    """Return what could not be read, and where in it, if that is told beside."""
    hidden, path = match["hidden"], match["path"]
    return hidden if path in (None, hidden) else f"{hidden} ({path})"


def _damage(match: re.Match[str], hidden: Sequence[str]) -> str:
    names = list(dict.fromkeys(hidden))
    shown = names if len(names) <= MAX_HIDDEN + 1 else names[:MAX_HIDDEN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    cure = f"; see what `{CHECKERS[match['format']]}` says of a copy, or scan an older state"
    if ENCRYPTED in match["cause"]:
        cure = ""  # nothing is damaged, and no older state reads better
    return f"{match['cause']}; not read because of it: {', '.join(shown)}{more}{cure}"
