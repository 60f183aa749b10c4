"""What lies between two states of a machine."""

from dataclasses import dataclass

from undercroft.model.finding import Finding


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package whose version differs. `from_version` is "" when added, `to_version` when removed.

    Attributes:
        manager: as `Package.manager`; packages of one name and two managers are two packages.
        name: binary package name.
        architecture: as the manager has it, "" for one of none.
        from_version: in the first state.
        to_version: in the second state.
    """

    manager: str
    name: str
    architecture: str
    from_version: str
    to_version: str


@dataclass(frozen=True, slots=True)
class StateDiff:
    """The way from one state to another.

    Attributes:
        from_name: what the user calls the first state ("web01.qcow2@before-upgrade").
        to_name: what the user calls the second.
        added: packages that only the second has; all package lists are sorted by name, architecture and
            manager. Where a state holds several versions of a package, each was added or removed.
        removed: packages that only the first has.
        upgraded: packages that the second has in a newer version.
        downgraded: packages that the second has in an older version.
        findings_gained: findings that only the second has, in the order of its assessment.
        findings_lost: findings that only the first has; going back to it brings them back.
        changed: packages that the second has in another version, of managers without a known order of
            versions (snap, flatpak, Windows' programs and updates).
        problems: why the answer is not whole; a finding may be missing on a side that was not read.
        managers: of the packages that the states have, sorted.
    """

    from_name: str
    to_name: str
    added: tuple[PackageChange, ...]
    removed: tuple[PackageChange, ...]
    upgraded: tuple[PackageChange, ...]
    downgraded: tuple[PackageChange, ...]
    findings_gained: tuple[Finding, ...]
    findings_lost: tuple[Finding, ...]
    changed: tuple[PackageChange, ...] = ()
    problems: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True when both states were read and assessed as a whole."""
        return not self.problems
