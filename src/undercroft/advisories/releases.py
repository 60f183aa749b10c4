"""Which release's statements an operating system has to be matched with: see `families`.

Debian testing names no version: its codename stands for the version that it will become. Unstable
presents itself as testing ("trixie/sid") and is taken for it. CentOS Stream and CentOS Linux share an
os-release ID and are told apart by their names. AlmaLinux Kitten is no AlmaLinux: it has no advisories.
"""

from undercroft.advisories.families import FAMILIES, Family, families_with
from undercroft.advisories.feeds.releases import DEBIAN_CODENAMES
from undercroft.errors import UnsupportedError
from undercroft.model.inventory import Inventory, OsRelease


def release_key(os: OsRelease) -> str:
    """Return the release key of `os`, whose texts are untrusted.

    Raises:
        UnsupportedError: no distribution of the table, or a release that names neither version nor codename.
    """
    family = _family(os)
    if family.form is None:
        return family.name
    version = family.form.fullmatch(os.version)
    if version is not None:
        return f"{family.name}:{version[1]}"
    if family.name == "alpine" and "_alpha" in os.version:
        return "alpine:edge"
    codename = (os.codename or os.version).partition("/")[0]
    if os.ident != "debian" or os.version not in {"", codename, f"{codename}/sid"}:
        raise UnsupportedError(f"{os.name or os.ident}: {os.source} names no release that is known")
    if codename not in DEBIAN_CODENAMES:
        raise UnsupportedError(f"{os.name or os.ident}: {os.source} names the unknown release {codename!r}")
    return f"debian:{DEBIAN_CODENAMES[codename]}"


def known_release(inventory: Inventory) -> str:
    """Return the release key of an inventory's system, "" where it is unknown or not covered."""
    if inventory.os is None:
        return ""
    try:
        return release_key(inventory.os)
    except UnsupportedError:
        return ""


def _family(os: OsRelease) -> Family:
    families = families_with(os.ident)
    if not families or (os.ident == "almalinux" and "kitten" in os.name.lower()):
        titles = [family.title for family in FAMILIES]
        raise UnsupportedError(
            f"{os.name or os.ident or 'this operating system'}: advisories are matched for "
            f"{', '.join(titles[:-1])} and {titles[-1]} only; a derivative's packages are not theirs"
        )
    if os.ident == "centos":
        is_stream = "stream" in os.name.lower()
        return next(family for family in families if family.name.endswith("-stream") is is_stream)
    return families[0]
