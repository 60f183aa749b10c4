"""What the distribution's package indexes say: newer versions, and versions that nobody lists.

Rules, with the reasons:

1. The candidate is the newest version over all suites of the release: main can be ahead of security.
   Backports and proposed updates count only for what was installed from there, as in apt's defaults.
2. Being outdated is no vulnerability. What a newer version fixes is in changelogs: see `history`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from undercroft.advisories.debversion import key
from undercroft.advisories.records import IndexEntry
from undercroft.advisories.sources import Subject
from undercroft.model.finding import Outdated, Unassessed
from undercroft.model.inventory import Package

_ON_REQUEST = ("-backports", "-backports-sloppy", "-proposed-updates", "-proposed")


@dataclass(frozen=True, slots=True)
class Standing:
    """How one installed package stands to the release's indexes; neither is set when it is up to date."""

    outdated: Outdated | None = None
    unassessed: Unassessed | None = None


def candidate(listed: Iterable[tuple[str, str]], installed: str) -> tuple[str, str]:
    """Return (suite, version) of the newest version to be had, ("", "") when `listed` is empty.

    Args:
        listed: (suite, version) pairs.
        installed: a version that came from backports makes these count too.
    """
    pairs = sorted(listed, key=lambda pair: (key(pair[1]), pair[0]))
    automatic = [pair for pair in pairs if not pair[0].endswith(_ON_REQUEST)]
    if automatic and key(automatic[-1][1]) >= key(installed):
        return automatic[-1]
    return pairs[-1] if pairs else ("", "")


def standing(
    package: Package, subject: Subject, known_versions: frozenset[bytes], entries: Sequence[IndexEntry]
) -> Standing:
    """Return how `package` stands to the index.

    Args:
        package: untrusted.
        subject: its source package and version.
        known_versions: keys of the source versions that a changelog lists.
        entries: the index's for this package name, any architecture.
    """
    if not entries:
        return Standing(None, Unassessed(package.name, package.version, "no source lists this package"))
    matching = [entry for entry in entries if _same_architecture(package.architecture, entry.architecture)]
    if not matching:
        reason = f"no source lists this package for {package.architecture}"
        return Standing(None, Unassessed(package.name, package.version, reason))
    installed = key(package.version)
    suite, version = candidate(((entry.suite, entry.version) for entry in matching), package.version)
    older = installed < key(version)
    outdated = Outdated(package.name, package.source, package.version, version, suite) if older else None
    if any(key(entry.version) == installed for entry in matching) or key(subject.version) in known_versions:
        return Standing(outdated)
    reason = "no source lists this version" if older else "newer than any source lists"
    return Standing(outdated, Unassessed(package.name, package.version, reason))


def _same_architecture(installed: str, listed: str) -> bool:
    """Return whether one can replace the other: a package may turn into "all", or back."""
    return installed == listed or "all" in {installed, listed}
