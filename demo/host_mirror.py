"""Where this machine itself gets Debian's packages from: the demo's guest comes from the same place.

No address is written down here; a machine without internet that has a mirror can run the demo.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from undercroft.advisories.feeds.sources_list import AptSource, parse_deb822, parse_one_line
from undercroft.errors import NotFoundError

APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
_FORWARDED = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CaInfo")


@dataclass(frozen=True, slots=True)
class HostMirror:
    """The two suites that the demo needs, and how apt reaches them.

    Attributes:
        codename: of the release ("bookworm").
        main: the release as it was published, with its point releases.
        security: its security updates.
        apt_options: of the machine's apt that matter for downloads ("Acquire::http::Proxy=...").
    """

    codename: str
    main: AptSource
    security: AptSource
    apt_options: tuple[str, ...] = ()


def host_mirror(apt: Path = APT, os_release: Path = OS_RELEASE) -> HostMirror:
    """Return this machine's mirror.

    Raises:
        NotFoundError: it is no Debian, or its apt has no main or no security suite.
        InputError: a sources file is malformed.
    """
    fields = dict(line.partition("=")[::2] for line in os_release.read_text().splitlines())
    codename = fields.get("VERSION_CODENAME", "").strip('"')
    if fields.get("ID", "").strip('"') != "debian" or not codename:
        raise NotFoundError(
            f"{os_release}: this is not a release of Debian; run the demo on Debian 12 or newer"
        )
    sources = _sources(apt)
    return HostMirror(
        codename,
        _suite(sources, codename, apt),
        _suite(sources, f"{codename}-security", apt),
        _apt_options(),
    )


def source_line(source: AptSource, keys: Path) -> str:
    """Return `source`, main component only, as a line of sources.list.

    Args:
        source: the suite.
        keys: folder for the key where the source carries the key itself instead of a path.
    """
    signed_by = source.signed_by
    if "BEGIN PGP" in signed_by:
        key = keys / f"{source.suite}.asc"
        key.write_text("\n".join("" if line == "." else line for line in signed_by.splitlines()) + "\n")
        signed_by = str(key)
    option = f"[signed-by={signed_by}] " if signed_by else ""
    return f"deb {option}{source.base} {source.suite} main"


def _sources(apt: Path) -> list[AptSource]:
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    found: list[AptSource] = []
    for file in files:
        if file.suffix == ".list" and file.is_file():
            found += parse_one_line(file.read_text(), str(file))
        elif file.suffix == ".sources" and file.is_file():
            found += parse_deb822(file.read_text(), str(file))
    return found


def _suite(sources: list[AptSource], suite: str, apt: Path) -> AptSource:
    for source in sources:
        if source.suite == suite and "main" in source.components:
            return source
    raise NotFoundError(
        f"{apt}: no source has the suite {suite} with the component main; add one and run it again"
    )


def _apt_options() -> tuple[str, ...]:
    options = []
    for name in _FORWARDED:
        dump = subprocess.run(
            ["/usr/bin/apt-config", "dump", "--format", "%v", name],
            capture_output=True,
            text=True,
            check=False,
        )
        if value := dump.stdout.strip():
            options.append(f"{name}={value}")
    return tuple(options)
