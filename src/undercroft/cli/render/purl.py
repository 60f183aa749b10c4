"""Package URLs (purl-spec) of packages, by their manager.

Systems' packages carry the architecture, the distribution and `upstream`, the source package. Snaps,
flatpaks, ports of FreeBSD and Windows' programs and updates have no type in the specification, and no URL.
"""

from packageurl import PackageURL

from undercroft.cli.render.escape import escape
from undercroft.model.inventory import OsRelease, Package

SYSTEM_TYPES = {"dpkg": "deb", "rpm": "rpm", "apk": "apk", "pacman": "alpm"}
LANGUAGE_TYPES = {"pypi": "pypi", "npm": "npm", "gem": "gem", "go": "golang"}

_NAMESPACES = {
    "opensuse-leap": "opensuse",
    "opensuse-tumbleweed": "opensuse",
    "ol": "oracle",
    "rhel": "redhat",
}
"""Where rpm's namespace (the vendor) is not the release's ID."""


def purl_of(package: Package, system: OsRelease | None) -> PackageURL | None:
    """Return the package URL; None where the database names no package, or its kind has no URL."""
    if not package.name:
        return None
    if package.manager in SYSTEM_TYPES:
        return _of_system(package, system)
    if package.manager in LANGUAGE_TYPES:
        namespace, _, name = package.name.rpartition("/")
        kind = LANGUAGE_TYPES[package.manager]
        return PackageURL(kind, escape(namespace) or None, escape(name), escape(package.version))
    return None


def _of_system(package: Package, system: OsRelease | None) -> PackageURL:
    version = package.version
    qualifiers = {"arch": escape(package.architecture), "upstream": escape(_upstream(package))}
    if system:
        qualifiers["distro"] = escape(
            "-".join(filter(None, (system.ident, system.version or system.codename)))
        )
    namespace = system.ident if system else ""
    if package.manager == "rpm":
        epoch, colon, rest = version.partition(":")
        version = rest if colon else version
        if colon:
            qualifiers["epoch"] = escape(epoch)
        if package.module:
            qualifiers["rpmmod"] = escape(package.module)
        namespace = _NAMESPACES.get(namespace, namespace)
    kind = SYSTEM_TYPES[package.manager]
    return PackageURL(kind, escape(namespace) or None, escape(package.name), escape(version), qualifiers)


def _upstream(package: Package) -> str:
    if package.manager == "rpm":
        return f"{package.source}-{package.source_version.rpartition(':')[2]}.src.rpm"
    if package.source_version != package.version:
        return f"{package.source}@{package.source_version}"
    return package.source
