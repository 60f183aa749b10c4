"""Software that no package manager knows: executables under /usr/local and /opt.

Guarantees: counts regular files with an execute bit that no package owns. Symlinks are not
counted (alternatives, and links to files that are counted where they lie). Passing the walk's limit is
a problem, and the count is then a lower bound; so is a folder that is a link to nothing.
"""

from dataclasses import dataclass, field

from undercroft.disks.filesystem import FileKind
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree, WalkLimits
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.database import FindOwners, nobody

FOLDERS = (b"/usr/local", b"/opt")
WALK_LIMITS = WalkLimits(entries=200_000, depth=64)
MAX_EXAMPLES = 10

_EXECUTE_BITS = 0o111


@dataclass(frozen=True, slots=True)
class UnownedExecutables:
    """How many, the first few paths in byte order, and what could not be looked at; all paths."""

    count: int = 0
    examples: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    paths: tuple[bytes, ...] = field(default=(), compare=False)


def find_unowned(
    tree: GuestTree, limits: WalkLimits = WALK_LIMITS, find_owners: FindOwners = nobody
) -> UnownedExecutables:
    """Return the executables in `tree` that no package owns by `find_owners`.

    Malformed folders become problems.
    """
    executables: set[bytes] = set()
    problems: list[str] = []
    for folder in FOLDERS:
        try:
            for path, entry in tree.walk(folder, limits):
                if entry.kind not in (FileKind.REGULAR, FileKind.UNKNOWN):
                    continue
                stat = tree.stat_entry(entry)
                if stat.kind is FileKind.REGULAR and stat.mode & _EXECUTE_BITS:
                    executables.add(path)
        except NotFoundError as error:
            if _is_there(tree, folder):
                problems.append(f"executables below {folder.decode()} are not counted: {error}")
        except InputError as error:
            problems.append(f"executables below {folder.decode()} are not all counted: {error}")
    if not executables:
        return UnownedExecutables(problems=tuple(problems))
    owners = find_owners(executables)
    unowned = sorted(executables - owners.packages.keys())
    examples = tuple(text(path) for path in unowned[:MAX_EXAMPLES])
    return UnownedExecutables(len(unowned), examples, (*problems, *owners.problems), tuple(unowned))


def _is_there(tree: GuestTree, folder: bytes) -> bool:
    """Return whether the folder's own name exists, if only as a link that leads nowhere."""
    try:
        tree.stat(folder, follow=False)
    except (InputError, NotFoundError):
        return False
    return True
