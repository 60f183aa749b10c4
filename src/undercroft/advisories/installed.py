"""What is installed, as advisories speak of it."""

from dataclasses import dataclass

from undercroft.advisories.families import family_of
from undercroft.advisories.sources import Subject, epochs, packages_of, subjects
from undercroft.model.inventory import Inventory, Package

ABSENT = frozenset({"config-files", "not-installed"})
"""States of a package of which nothing runs any more."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One version of one source package and the binary packages that are installed from it.

    Attributes:
        subject: as advisories speak of it.
        recorded_sources: its names in the guest's package database, sorted.
        packages: at least one.
        names: their names.
        others: less specific subjects that stand for the same packages (rule 6), most specific first.
    """

    subject: Subject
    recorded_sources: tuple[str, ...]
    packages: tuple[Package, ...]
    names: frozenset[str]
    others: tuple[Subject, ...] = ()

    @property
    def source(self) -> str:
        """The source package that a finding names."""
        return self.recorded_sources[0] if self.others else self.subject.source

    def version_of(self, subject_name: str) -> str | None:
        """Return the version to compare with statements about `subject_name`, None where it is not meant."""
        if subject_name == self.subject.source:
            return self.subject.version
        return self.other_versions.get(subject_name)

    @property
    def other_versions(self) -> dict[str, str]:
        """The versions to compare with statements about the less specific subjects."""
        return {other.source: other.version for other in self.others}


def installed(release: str, inventory: Inventory) -> list[Installed]:
    """Return each package and version that advisories name once, with the packages that are present from it.

    Names and versions are as advisories of `release` speak of them, and untrusted.
    """
    family = family_of(release)
    if family is None:
        return []
    known_epochs = epochs(inventory.packages) if family.by_binary else {}
    by_subjects: dict[tuple[Subject, ...], list[Package]] = {}
    for package in packages_of(family, inventory):
        if package.status not in ABSENT:
            by_subjects.setdefault(subjects(family, release, package, known_epochs), []).append(package)
    return [
        Installed(
            subject=named[0],
            recorded_sources=tuple(sorted({package.source for package in packages})),
            packages=tuple(packages),
            names=frozenset(package.name for package in packages),
            others=named[1:],
        )
        for named, packages in by_subjects.items()
    ]
