"""Which of Red Hat's extended streams a machine has, by its enabled repositories.

Red Hat says in VEX what is fixed in which product, by CPE, and in its repository-to-CPE mapping which
repository has which product's packages. A machine of 9.2 with the repositories of extended update support
gets "el9_2" builds that one without them does not.

Which repositories are enabled a guest says itself, and may say anything. So it decides one thing alone:
which of the fixes that a publisher offers a finding names. It takes no statement away and no finding:
whether a build is fixed, its version says (`verdict`, rule 6), for each statement of the release, whatever
repository it would come from. A scanner that keeps only the statements about the products of the
repositories that a guest names is blind to all others as soon as a guest names none of them.
"""

from collections.abc import Iterator
from typing import Final

from undercroft.advisories.coverage import UPDATEINFO
from undercroft.advisories.knowledge import Knowledge
from undercroft.model.inventory import Inventory

REPOSITORY: Final = "repository"
"""The manager of what an inventory lists as an enabled repository."""

Streams = frozenset[tuple[str, str]]
"""(stream, minor release): ("eus", "el9_2")."""

_SHOWN = 5
_RHUI = "-rhui"
"""What cloud images put into a repository's name, https://access.redhat.com/solutions/6964220."""


def repository_subject(name: str) -> str:
    """Return how the database calls what a mapping says of a repository; no package's name holds a colon."""
    return f"{REPOSITORY}:{name.replace(_RHUI, '')}"


def repositories(inventory: Inventory) -> list[str]:
    """Return the names of the repositories that a guest says are enabled, untrusted."""
    return [package.name for package in inventory.packages if package.manager == REPOSITORY]


def unlisted(knowledge: Knowledge, inventory: Inventory) -> Iterator[str]:
    """Yield which enabled repositories have no list of errata, where such lists speak for the release."""
    lists = [
        edition.header.name for edition in knowledge.editions if edition.header.name.startswith(UPDATEINFO)
    ]
    missing = set(repositories(inventory)) - {name.rpartition(":")[2] for name in lists}
    if missing and any(name.startswith(f"{UPDATEINFO}{knowledge.release}:") for name in lists):
        shown = sorted(missing)[:_SHOWN]
        more = f", and {len(missing) - len(shown)} more" if len(missing) > len(shown) else ""
        yield (
            f"{len(missing)} repositories are enabled there whose errata are not imported: "
            f"{', '.join(shown)}{more}"
        )


def streams_of(knowledge: Knowledge, inventory: Inventory) -> Streams:
    """Return the streams of the machine's minor release that its repositories have; none without a mapping.

    One repository of a stream is there for all of its minor releases: os-release names the machine's.
    """
    if inventory.os is None:
        return frozenset()
    minor = f"el{inventory.os.version.replace('.', '_')}"
    return frozenset(
        (statement.stream, minor)
        for name in repositories(inventory)
        for statement in knowledge.advisories.get(repository_subject(name), ())
        if statement.introduced_version == minor
    )
