"""The user's own OpenVEX statements, which take findings away.

Follows OpenVEX 0.2.0: a statement is about one vulnerability and names products. Here a product is a
package URL or a plain package name, of a binary or a source package. A package URL matches a package when
its type is that of the release's packages and everything that it spells out (namespace, name, version, arch,
distro) agrees; "arch=source" limits it to source packages. A statement without products is about every
package.

Only `not_affected` and `fixed` take a finding away, and only while no later statement about the same
package says otherwise. Of two at the same time, the one that leaves the finding counts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from undercroft.advisories.families import Family, family_of, is_language, language_subject
from undercroft.advisories.knowledge import grouped
from undercroft.advisories.records import VexStatement, VexStatus
from undercroft.model.finding import Finding
from undercroft.model.inventory import Package

if TYPE_CHECKING:
    from packageurl import PackageURL

_TAKES_AWAY = frozenset({VexStatus.NOT_AFFECTED, VexStatus.FIXED})


@dataclass(frozen=True, slots=True)
class Applied:
    """Findings that stay, and those that were taken away, each in their old order."""

    findings: tuple[Finding, ...]
    suppressed: tuple[Finding, ...]


def apply(
    findings: Iterable[Finding],
    statements: Sequence[VexStatement],
    packages_of: Callable[[Finding, str], Iterable[Package]],
    release: str,
    codename: str,
) -> Applied:
    """Return what `statements` leave of `findings`.

    A finding that is taken away for some of its packages only is split. The parts taken away name the
    documents in `feeds`.

    Args:
        findings: in order.
        statements: the user's, about anything.
        packages_of: gives the installed packages (several versions, architectures) of a finding by name.
        release: release key.
        codename: the release's codename, untrusted.
    """
    if not statements:
        return Applied(tuple(findings), ())
    by_vulnerability = grouped((statement.vulnerability, statement) for statement in statements)
    distros = {codename, release.replace(":", "-")} - {""}
    stay: list[Finding] = []
    away: list[Finding] = []
    for finding in findings:
        about = by_vulnerability.get(finding.vulnerability, ())
        documents = {
            name: _documents(about, finding.source, tuple(packages_of(finding, name)), release, distros)
            for name in (finding.packages if about else ())
        }
        gone = tuple(name for name in finding.packages if documents.get(name))
        kept = tuple(name for name in finding.packages if name not in gone)
        if kept:
            stay.append(replace(finding, packages=kept) if gone else finding)
        if gone:
            named = sorted({f"openvex:{document}" for name in gone for document in documents[name]})
            away.append(replace(finding, packages=gone, feeds=(*finding.feeds, *named)))
    return Applied(tuple(stay), tuple(away))


def _documents(
    statements: Sequence[VexStatement],
    source: str,
    packages: Sequence[Package],
    release: str,
    distros: set[str],
) -> set[str]:
    """Return the documents that take the vulnerability away from all of `packages`, empty for none."""
    documents = set()
    for package in packages:
        about = [
            statement
            for statement in statements
            if not statement.products
            or any(_names(product, package, source, release, distros) for product in statement.products)
        ]
        latest = max(about, key=lambda item: (item.timestamp, item.status not in _TAKES_AWAY), default=None)
        if latest is None or latest.status not in _TAKES_AWAY:
            return set()
        documents.add(latest.document)
    return documents


def _names(product: str, package: Package, source: str, release: str, distros: set[str]) -> bool:
    """Return whether `product` is about `package`, which advisories call `source`."""
    sources = {package.source, source}
    if not product.startswith("pkg:"):
        return product == package.name or product in sources
    # Costs 20 ms, and most users have no OpenVEX document.
    from packageurl import PackageURL  # noqa: PLC0415

    try:
        purl = PackageURL.from_string(product)
    except ValueError:
        return False
    if is_language(package.manager):
        return _names_language(purl, package)
    family = family_of(release)
    if (
        family is None
        or purl.type != family.purl_type
        or purl.namespace not in {None, *family.purl_namespaces, *family.idents}
    ):
        return False
    distro = purl.qualifiers.get("distro")
    if distro is not None and distro not in distros and not _is_release(distro, family, release):
        return False
    architecture = purl.qualifiers.get("arch")
    if purl.name == package.name and architecture in {None, package.architecture}:
        return _same_version(purl, package.version, family)
    return (
        purl.name in sources
        and architecture in {None, "source"}
        and _same_version(purl, package.source_version, family)
    )


def _names_language(purl: "PackageURL", package: Package) -> bool:
    """Return whether a URL is about a package of a language; namespace and name are its name together."""
    family = family_of(package.manager)
    if family is None or purl.type != family.purl_type:
        return False
    name = "/".join(filter(None, (purl.namespace, purl.name)))
    named, installed = (language_subject(package.manager, text) for text in (name, package.name))
    return named == installed and _same_version(purl, package.version, family)


def _is_release(distro: str, family: Family, release: str) -> bool:
    """Return whether "almalinux-9.4" or "alpine-3.19.1" names a machine of the release."""
    for ident in family.idents:
        version = distro.removeprefix(f"{ident}-")
        if version != distro and family.form and (match := family.form.fullmatch(version)):
            return release == f"{family.name}:{match[1]}"
    return distro in family.idents and family.form is None


def _same_version(purl: "PackageURL", installed: str, family: Family) -> bool:
    """Return whether a URL names the installed version, or none; rpm's has the epoch as a qualifier."""
    if purl.version is None:
        return True
    epoch = purl.qualifiers.get("epoch", "")
    named = f"{epoch}:{purl.version}" if epoch and ":" not in purl.version else purl.version
    return family.order.key(named) == family.order.key(installed)
