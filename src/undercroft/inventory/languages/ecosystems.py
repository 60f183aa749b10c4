"""The ecosystems whose packages are listed, one line each. README's table is made from here."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from undercroft.disks.formats import Level
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.database import FindOwners, Owners, nobody
from undercroft.inventory.languages import bundles, golang, node, python, repositories, ruby
from undercroft.inventory.languages.finding import (
    MAX_CANDIDATES,
    MAX_METADATA_BYTES,
    Candidate,
    Finder,
    LimitReached,
)
from undercroft.model.inventory import Package

MAX_GO_PROGRAMS = 200
MAX_TOTAL_BYTES = 64 << 20
MAX_NOTES = 5


@dataclass(frozen=True, slots=True)
class Ecosystem:
    """One kind of software.

    Attributes:
        manager: as `Package.manager` has it.
        title: as an administrator calls it.
        level: how much is read.
        reads: what is read and what is not, in one sentence.
        find: the finder of what names its packages; None where unowned executables are looked into.
        may_be_owned: whether packages of the system's own manager bring such files too.
    """

    manager: str
    title: str
    level: Level
    reads: str
    find: Callable[[Finder], Iterator[Candidate]] | None
    may_be_owned: bool = False


ECOSYSTEMS = (
    Ecosystem(
        "pypi",
        "Python packages",
        Level.PARTLY,
        "what pip installed for all users, and virtual environments directly below /opt",
        python.find,
        may_be_owned=True,
    ),
    Ecosystem(
        "npm",
        "Node packages",
        Level.PARTLY,
        "what npm installed globally, and what that brings along",
        node.find,
        may_be_owned=True,
    ),
    Ecosystem(
        "gem",
        "Ruby gems",
        Level.PARTLY,
        "the specifications in the folders of all users",
        ruby.find,
        may_be_owned=True,
    ),
    Ecosystem(
        "go",
        "Go programs",
        Level.PARTLY,
        "the modules of programs below /usr/local and /opt that were built with Go 1.18 or later",
        None,
    ),
    Ecosystem("snap", "snaps", Level.PARTLY, "names and revisions, not what is inside", bundles.find_snaps),
    Ecosystem(
        "flatpak",
        "flatpaks",
        Level.PARTLY,
        "names, branches and commits, not what is inside",
        bundles.find_flatpaks,
    ),
    Ecosystem(
        repositories.MANAGER,
        "dnf's repositories",
        Level.PARTLY,
        "the enabled ones, and content sets of images; not which of them a package came from",
        repositories.find,
    ),
)


@dataclass(frozen=True, slots=True)
class Languages:
    """Packages by ecosystem and name, and what was not looked at."""

    packages: tuple[Package, ...] = ()
    notes: tuple[str, ...] = ()


def read_languages(
    tree: GuestTree, find_owners: FindOwners = nobody, unowned: Sequence[bytes] = ()
) -> Languages:
    """Return the packages in `tree` that no package of the system's own manager brought.

    Args:
        tree: the machine's files.
        find_owners: who owns a path.
        unowned: executables that nobody owns, which may be Go programs.
    """
    looked = [(ecosystem, *_candidates(ecosystem, tree, unowned)) for ecosystem in ECOSYSTEMS]
    asked = {one.path for ecosystem, candidates, _ in looked if ecosystem.may_be_owned for one in candidates}
    owners = find_owners(asked) if asked else Owners()  # once: it may read every list of files
    found: dict[Package, None] = {}
    notes = [f"packages of languages may be listed twice: {problem}" for problem in owners.problems]
    for ecosystem, candidates, told in looked:
        read, unread = _read(tree, [one for one in candidates if one.path not in owners.packages])
        found |= dict.fromkeys(sorted(read, key=lambda one: (one.name, one.version)))
        notes += [f"{ecosystem.title}: {note}" for note in (*told, *unread)]
    return Languages(tuple(found), tuple(notes))


def _candidates(
    ecosystem: Ecosystem, tree: GuestTree, unowned: Sequence[bytes]
) -> tuple[list[Candidate], list[str]]:
    """Return what may name packages, within the limits, and what was not searched."""
    if ecosystem.find is None:
        more = len(unowned) - MAX_GO_PROGRAMS
        notes = [f"{more} of {len(unowned)} executables were not looked into"] if more > 0 else []
        return golang.candidates(unowned[:MAX_GO_PROGRAMS]), notes
    finder = Finder(tree)
    candidates: list[Candidate] = []
    try:
        for candidate in ecosystem.find(finder):
            if len(candidates) >= MAX_CANDIDATES:
                raise LimitReached
            candidates.append(candidate)
    except LimitReached:
        finder.notes.append("more folders or files than the limits allow; the rest is not listed")
    except (InputError, NotFoundError) as error:
        finder.notes.append(f"not all were searched: {error}")
    return candidates, _some(finder.notes, "more folders could not be searched")


def _some(notes: Sequence[str], more: str) -> list[str]:
    """Return the first of `notes`, the last, which may say why it ended there, and how many are between."""
    if len(notes) <= MAX_NOTES + 1:
        return list(notes)
    return [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES - 1} {more}", notes[-1]]


def _read(tree: GuestTree, candidates: Iterable[Candidate]) -> tuple[list[Package], list[str]]:
    packages: list[Package] = []
    notes: list[str] = []
    unread = total = 0
    for candidate in candidates:
        try:
            if candidate.is_parsed:  # a link counts as what it leads to: that is what is read
                total += min(tree.stat(candidate.path).size_bytes, MAX_METADATA_BYTES)
            if total > MAX_TOTAL_BYTES:
                notes.append(f"more than {MAX_TOTAL_BYTES} bytes; the rest is not listed")
                break
            packages += candidate.read(tree)
        except NotFoundError:
            continue
        except InputError as error:
            unread += 1
            if unread <= MAX_NOTES:
                notes.append(f"{text(candidate.path)} could not be read: {error}")
    if unread > MAX_NOTES:
        notes.append(f"{unread - MAX_NOTES} more could not be read")
    return packages, notes
