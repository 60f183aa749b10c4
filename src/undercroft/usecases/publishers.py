"""Where each publisher offers its feed, and how a site names another place for it.

An address is looked for in this order: the caller's overrides (an option, a configuration file), the
environment (`UNDERCROFT_FEED_DEBIAN_TRACKER=https://...`), the publisher's own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from undercroft.advisories.feeds.repomd import PATH as REPOMD
from undercroft.errors import NotFoundError

ENVIRONMENT_PREFIX = "UNDERCROFT_FEED_"

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Publisher:
    """A feed that can be fetched.

    Attributes:
        name: what its edition must turn out to be ("debian-tracker", "osv:Debian").
        url: https, or file for a copy on this machine; of a repository's repomd.xml, which names the errata.
        limit_bytes: the most that is accepted, compressed as it comes; several times today's size.
        optional: fetched only when it is named: it is large, and others hold most of what it says; or it is
            for one distribution's machines.
    """

    name: str
    url: str
    limit_bytes: int
    optional: bool = False


_TRACKER_LISTS = "https://salsa.debian.org/security-tracker-team/security-tracker/-/raw/master/data"

_OSV = "https://osv-vulnerabilities.storage.googleapis.com"

_ORACLE = "https://yum.oracle.com/repo/OracleLinux"
_ORACLE_REPOSITORIES = {
    "8": {
        "ol8_baseos_latest": "OL8/baseos/latest",
        "ol8_appstream": "OL8/appstream",
        "ol8_UEKR6": "OL8/UEKR6",
        "ol8_UEKR7": "OL8/UEKR7",
    },
    "9": {
        "ol9_baseos_latest": "OL9/baseos/latest",
        "ol9_appstream": "OL9/appstream",
        "ol9_UEKR7": "OL9/UEKR7",
        "ol9_UEKR8": "OL9/UEKR8",
    },
}
_FEDORA = "https://dl.fedoraproject.org/pub"

_ALPINE = {f"3.{minor}": f"v3.{minor}" for minor in range(16, 24)} | {"edge": "edge"}

PUBLISHERS = (
    Publisher("debian-tracker", "https://security-tracker.debian.org/tracker/data/json", 256 * _MIB),
    Publisher("debian-dsa", f"{_TRACKER_LISTS}/DSA/list", 64 * _MIB),
    Publisher("debian-dla", f"{_TRACKER_LISTS}/DLA/list", 64 * _MIB),
    Publisher("osv:Debian", f"{_OSV}/Debian/all.zip", 1024 * _MIB),
    Publisher("osv:Ubuntu", f"{_OSV}/Ubuntu/all.zip", 2048 * _MIB),
    Publisher("osv:AlmaLinux", f"{_OSV}/AlmaLinux/all.zip", 256 * _MIB, optional=True),
    Publisher("osv:RockyLinux", f"{_OSV}/Rocky%20Linux/all.zip", 256 * _MIB, optional=True),
    Publisher("osv:RedHat", f"{_OSV}/Red%20Hat/all.zip", 1024 * _MIB, optional=True),
    Publisher("osv:SUSE", f"{_OSV}/SUSE/all.zip", 1024 * _MIB, optional=True),
    Publisher("osv:openSUSE", f"{_OSV}/openSUSE/all.zip", 1024 * _MIB, optional=True),
    Publisher("osv:Alpine", f"{_OSV}/Alpine/all.zip", 256 * _MIB, optional=True),
    *(
        Publisher(f"osv:{name}", f"{_OSV}/{name}/all.zip", 1024 * _MIB, optional=True)
        for name in ("PyPI", "npm", "Go", "RubyGems", "crates.io")
    ),
    Publisher("arch", "https://security.archlinux.org/all.json", 64 * _MIB, optional=True),
    Publisher(
        "kev",
        "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
        32 * _MIB,
    ),
    Publisher("epss", "https://epss.empiricalsecurity.com/epss_scores-current.csv.gz", 64 * _MIB),
    Publisher(
        "cve",
        "https://github.com/CVEProject/cvelistV5/archive/refs/heads/main.zip",
        4096 * _MIB,
        optional=True,
    ),
    *(
        Publisher(
            f"alpine-secdb:{release}:{repository}",
            f"https://secdb.alpinelinux.org/{branch}/{repository}.json",
            32 * _MIB,
            optional=True,
        )
        for release, branch in _ALPINE.items()
        for repository in ("main", "community")
    ),
    *(
        Publisher(
            f"updateinfo:oracle:{version}:{name}",
            f"{_ORACLE}/{path}/x86_64/{REPOMD}",
            256 * _MIB,
            optional=True,
        )
        for version, repositories in _ORACLE_REPOSITORIES.items()
        for name, path in repositories.items()
    ),
    *(
        Publisher(
            f"updateinfo:fedora:{version}:updates",
            f"{_FEDORA}/fedora/linux/updates/{version}/Everything/x86_64/{REPOMD}",
            256 * _MIB,
            optional=True,
        )
        for version in (43, 44, 45)
    ),
    *(
        Publisher(
            f"updateinfo:epel:{version}:epel",
            f"{_FEDORA}/epel/{version}/Everything/x86_64/{REPOMD}",
            256 * _MIB,
            optional=True,
        )
        for version in (8, 9)
    ),
)


def select(
    names: Iterable[str], overrides: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[Publisher, ...]:
    """Return the publishers called `names`, all but the optional ones where there are none.

    Args:
        names: of feeds.
        overrides: address by name.
        environment: the process's.

    Raises:
        NotFoundError: a name that no publisher has; the message lists those that are known.
    """
    known = {publisher.name: publisher for publisher in PUBLISHERS}
    wanted = list(dict.fromkeys(names)) or [name for name, entry in known.items() if not entry.optional]
    for name in [*wanted, *overrides]:
        if name not in known:
            raise NotFoundError(f"no feed is called {name!r}; known are {', '.join(known)}")
    return tuple(
        replace(known[name], url=overrides.get(name) or environment.get(_variable(name)) or known[name].url)
        for name in wanted
    )


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper().translate(str.maketrans("-:.", "___"))
