"""Which ecosystem and releases an archive of OSV records speaks for, out of a first pass over it."""

from collections.abc import Iterable
from datetime import datetime

from undercroft.advisories.feeds import fields
from undercroft.advisories.feeds.headers import Survey
from undercroft.advisories.feeds.osv_records import PER_VULNERABILITY, OsvRecord, affected_in

_ECOSYSTEMS = {
    "alma": "AlmaLinux",
    "rocky": "RockyLinux",
    "rhel": "RedHat",
    "sles": "SUSE",
    "opensuse-leap": "openSUSE",
    "opensuse-tumbleweed": "openSUSE",
    "alpine": "Alpine",
    "pypi": "PyPI",
    "npm": "npm",
    "go": "Go",
    "gem": "RubyGems",
    "cargo": "crates.io",
}
_OF_DEBS = frozenset(("Debian", "Ubuntu"))


class OsvSurvey(Survey):
    """What a first pass over an archive finds out for its header."""

    def __init__(self, now: datetime) -> None:
        super().__init__(now)
        self.records = 0
        self.per_vulnerability: dict[str, int] = {}
        self._shared: set[str] | None = None
        self._shared_ecosystems: set[str] | None = None

    def add_record(self, record: OsvRecord) -> None:
        """Count a record."""
        self.records += 1
        releases = {release for _, release, _ in affected_in(record)}
        self.add(record.modified_at, releases)
        for release in releases:
            counts = record.ident.startswith(PER_VULNERABILITY)
            self.per_vulnerability[release] = self.per_vulnerability.get(release, 0) + counts
        if releases:
            self._shared = releases if self._shared is None else self._shared & releases
        if ecosystems := _ecosystems(record):
            known = self._shared_ecosystems
            self._shared_ecosystems = ecosystems if known is None else known & ecosystems

    def scope(self) -> tuple[str, tuple[str, ...]]:
        """Return (ecosystem, releases) that the archive speaks for.

        Publishers have one archive per ecosystem ("Debian") and one per release ("Debian:12"); the records
        of the latter mention other releases too, but only where they all mention one is it told whole.
        """
        ecosystems = sorted(set(map(_ecosystem, self.about)))
        shared = set(ecosystems) & (self._shared_ecosystems or set())
        if len(ecosystems) > 1 and len(shared) == 1:
            ecosystems = list(shared)
        releases = tuple(sorted(release for release in self.about if _ecosystem(release) in ecosystems))
        if len(ecosystems) == 1 and len(releases) > 1 and self._shared and len(self._shared) == 1:
            releases = tuple(self._shared)
        if len(ecosystems) == 1 and len(releases) == 1 and self._shared == set(releases):
            return self._of_one(releases[0]), releases
        return "+".join(ecosystems), releases

    def _of_one(self, release: str) -> str:
        """Return the name of an archive whose records all mention one release, and others do not."""
        version = release.partition(":")[2]
        return f"{_ecosystem(release)}:{version}" if len(self.about) > 1 and version else _ecosystem(release)


def _ecosystem(release: str) -> str:
    """Return what a release's ecosystem is called in a feed's name."""
    distribution = release.partition(":")[0]
    return _ECOSYSTEMS.get(distribution, distribution.capitalize())


def _ecosystems(record: OsvRecord) -> set[str]:
    """Return every ecosystem that a record mentions, read or not ("SUSE" for "SUSE:Linux Enterprise ...")."""
    found = set()
    for affected in fields.as_objects(record.document.get("affected"), f"{record.place}: affected"):
        package = fields.as_object(affected.get("package") or {}, f"{record.place}: package")
        name = fields.as_text(package.get("ecosystem"), f"{record.place}: ecosystem").partition(":")[0]
        found.add(name.replace(" ", ""))
    return found - {""}


def of_debs(releases: Iterable[str]) -> bool:
    """Tell whether all of `releases` are Debian's or Ubuntu's."""
    return all(_ecosystem(release) in _OF_DEBS for release in releases)
