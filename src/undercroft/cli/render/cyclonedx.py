"""One state of a machine as a CycloneDX 1.6 bill of materials with its vulnerabilities (ECMA-424).

A bill describes one moment, so it describes one state: the current one unless another is asked for.
Coverage is part of it: `compositions` says `incomplete` where something was not read or not assessed,
and the properties `undercroft:complete` and `undercroft:problem` say why. A bill without findings from
an incomplete state is no clean bill. `undercroft:note` says what limits a whole answer, and
`undercroft:feed` which editions of the advisories gave it.

Packages carry package URLs (`purl`), those of systems with architecture, distribution and `upstream` (the
source package, which advisories of Debian and Ubuntu speak of). Negligible severities are `info`, the
standard's word for it.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.impact_analysis import ImpactAnalysisAffectedStatus, ImpactAnalysisState
from cyclonedx.model.vulnerability import (
    BomTarget,
    BomTargetVersionRange,
    Vulnerability,
    VulnerabilityAnalysis,
    VulnerabilityRating,
    VulnerabilityReference,
    VulnerabilityScoreSource,
    VulnerabilitySeverity,
    VulnerabilitySource,
)
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion

from undercroft.advisories.streams import REPOSITORY
from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.jsontext import dump
from undercroft.cli.render.purl import purl_of
from undercroft.cli.render.sections import all_notes
from undercroft.model.finding import FeedStatus, Finding, FixState, Severity
from undercroft.model.inventory import Inventory, Package
from undercroft.model.report import ScanReport, StateReport
from undercroft.version import VERSION

_MACHINE = "machine"
_OS = "operating-system"
_SERIALS = uuid.UUID("5d1c8ad2-2f6e-4b7c-9f0a-6b6f3f0d7f52")
"""Namespace of serial numbers (RFC 9562, version 5): the same scan gives the same bill."""
_SEVERITIES = {
    Severity.CRITICAL: VulnerabilitySeverity.CRITICAL,
    Severity.HIGH: VulnerabilitySeverity.HIGH,
    Severity.MEDIUM: VulnerabilitySeverity.MEDIUM,
    Severity.LOW: VulnerabilitySeverity.LOW,
    Severity.NEGLIGIBLE: VulnerabilitySeverity.INFO,
    Severity.UNKNOWN: VulnerabilitySeverity.UNKNOWN,
}
_METHODS = {
    "cvss2": VulnerabilityScoreSource.CVSS_V2,
    "cvss2.0": VulnerabilityScoreSource.CVSS_V2,
    "cvss3": VulnerabilityScoreSource.CVSS_V3,
    "cvss3.0": VulnerabilityScoreSource.CVSS_V3,
    "cvss3.1": VulnerabilityScoreSource.CVSS_V3_1,
    "cvss4.0": VulnerabilityScoreSource.CVSS_V4,
}


def render_cyclonedx(report: ScanReport, state: StateReport) -> str:
    """Return the bill of materials of `state`, one of the report's, as JSON."""
    inventory = state.inventory
    refs = _refs(inventory.packages) if inventory else {}
    metadata = _metadata(report, state)
    bom = Bom(
        serial_number=uuid.uuid5(
            _SERIALS, f"{report.machine!a}@{state.ident}@{report.scanned_at.isoformat()}"
        ),
        metadata=metadata,
        components=_components(inventory, refs) if inventory else (),
        vulnerabilities=[
            _vulnerability(finding, inventory.packages, refs, suppressed=suppressed)
            for finding, suppressed in _findings(state)
            if inventory
        ],
    )
    if metadata.component:
        bom.register_dependency(metadata.component, bom.components)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    document = json.loads(text)
    # The library has no compositions.
    aggregate = "complete" if _complete(state) else "incomplete"
    document["compositions"] = [{"aggregate": aggregate, "assemblies": [_MACHINE]}]
    return dump(document)


def _findings(state: StateReport) -> Iterator[tuple[Finding, bool]]:
    """Yield the findings, and those that the user's OpenVEX documents set aside."""
    if state.assessment:
        yield from ((finding, False) for finding in state.assessment.findings)
        yield from ((finding, True) for finding in state.assessment.suppressed)


def _complete(state: StateReport) -> bool:
    return state.complete and state.inventory is not None and state.assessment is not None


def _metadata(report: ScanReport, state: StateReport) -> BomMetaData:
    properties = [
        Property(name="undercroft:state", value=escape(state.name)),
        Property(name="undercroft:complete", value=str(_complete(state)).lower()),
        Property(name="undercroft:sandboxed", value=str(report.sandboxed).lower()),
        *(Property(name="undercroft:problem", value=harmless(problem)) for problem in state.problems),
        *(Property(name="undercroft:note", value=harmless(note)) for note in all_notes(state)),
        *(Property(name="undercroft:feed", value=_feed(feed)) for feed in report.feeds),
    ]
    if report.as_of:
        properties.append(Property(name="undercroft:as-of", value=report.as_of.isoformat()))
    metadata = BomMetaData(
        timestamp=report.scanned_at if report.scanned_at.tzinfo else report.scanned_at.replace(tzinfo=UTC),
        component=Component(
            type=ComponentType.DEVICE,
            name=escape(report.machine),
            version=escape(state.name),
            bom_ref=_MACHINE,
        ),
        properties=properties,
    )
    metadata.tools.components.add(
        Component(type=ComponentType.APPLICATION, name="undercroft", version=VERSION, bom_ref="undercroft")
    )
    return metadata


def _feed(feed: FeedStatus) -> str:
    """Return a feed's edition in words: name, serial, dates, and whether it is too old."""
    published = f", published {feed.published_at:%Y-%m-%dT%H:%MZ}" if feed.published_at else ""
    stale = ", too old" if feed.stale else ""
    fetched = f", fetched {feed.fetched_at:%Y-%m-%dT%H:%MZ}"
    return f"{escape(feed.name)} {escape(feed.serial)}{published}{fetched}{stale}"


def _refs(packages: Iterable[Package]) -> dict[Package, str]:
    """Return a reference for each package; what a database lists twice is one component."""
    return {package: escape(_ref(package)) for package in packages}


def _ref(package: Package) -> str:
    ref = f"{package.name}:{package.architecture}@{package.version}"
    return ref if package.manager == "dpkg" else f"{package.manager}/{ref}"


def _components(inventory: Inventory, refs: Mapping[Package, str]) -> Iterator[Component]:
    if inventory.os:
        yield Component(
            type=ComponentType.OPERATING_SYSTEM,
            name=escape(inventory.os.ident),
            version=escape(inventory.os.version or inventory.os.codename),
            description=escape(inventory.os.name),
            bom_ref=_OS,
        )
    done = set[str]()
    for package, ref in refs.items():
        if ref not in done and package.manager != REPOSITORY:  # where components come from is none
            done.add(ref)
            yield Component(
                type=ComponentType.LIBRARY,
                name=escape(package.name),
                version=escape(package.version),
                purl=purl_of(package, inventory.os),
                bom_ref=ref,
                properties=_package_properties(package),
            )


def _package_properties(package: Package) -> Iterator[Property]:
    yield Property(name="undercroft:status", value=escape(package.status))
    if package.manager != "dpkg":
        yield Property(name="undercroft:manager", value=escape(package.manager))
    if package.module:
        yield Property(name="undercroft:module", value=escape(package.module))


def _vulnerability(
    finding: Finding, packages: Sequence[Package], refs: Mapping[Package, str], *, suppressed: bool
) -> Vulnerability:
    names = set(finding.packages)
    affected = [package for package in packages if package.name in names and _is_of(package, finding.source)]
    status = ImpactAnalysisAffectedStatus.UNAFFECTED if suppressed else ImpactAnalysisAffectedStatus.AFFECTED
    source = VulnerabilitySource(name=escape(finding.feeds[0])) if finding.feeds else None
    return Vulnerability(
        bom_ref=escape(f"{finding.vulnerability}/{finding.source}"),
        id=escape(finding.vulnerability),
        source=source,
        references=[
            VulnerabilityReference(id=escape(advisory), source=source or VulnerabilitySource(name="unknown"))
            for advisory in finding.advisories
            if advisory != finding.vulnerability
        ],
        ratings=[_rating(finding)],
        description=escape(finding.title) or None,
        recommendation=_recommendation(finding),
        published=_midnight(finding.published_on),
        affects=[
            BomTarget(
                ref=refs[package],
                versions=[BomTargetVersionRange(version=escape(package.version), status=status)],
            )
            for package in affected
        ],
        analysis=VulnerabilityAnalysis(state=ImpactAnalysisState.NOT_AFFECTED) if suppressed else None,
        properties=_finding_properties(finding),
    )


def _is_of(package: Package, source: str) -> bool:
    """Tell whether a finding's source is a package's; one of a language names its ecosystem too."""
    return source in {package.source, f"{package.manager}:{package.source}"}


def _rating(finding: Finding) -> VulnerabilityRating:
    """Return the rating with its source; "cve:cvss3.1:7.8" also names a method and a score."""
    origin, _, rest = finding.severity_source.partition(":")
    method, _, score = rest.partition(":")
    known = _METHODS.get(method)
    return VulnerabilityRating(
        source=VulnerabilitySource(name=escape(origin)) if origin else None,
        severity=_SEVERITIES[finding.severity],
        method=known,
        score=Decimal(score) if known and score.replace(".", "", 1).isdecimal() else None,
    )


def _recommendation(finding: Finding) -> str | None:
    if finding.fix in words.WITHOUT_FIX:
        return None if finding.fix is FixState.UNFIXED else f"{words.WITHOUT_FIX[finding.fix].capitalize()}."
    terms = ", which needs an extended subscription" if finding.fix is FixState.NEEDS_SUBSCRIPTION else ""
    return f"Upgrade {escape(finding.source)} to {escape(finding.fixed_version)}{terms}."


def _finding_properties(finding: Finding) -> Iterator[Property]:
    yield Property(name="undercroft:fix", value=finding.fix.value)
    yield Property(name="undercroft:fixed-version", value=escape(finding.fixed_version))
    if finding.fixed_on:
        yield Property(name="undercroft:fixed-on", value=finding.fixed_on.isoformat())
    if finding.known_exploited_on:
        yield Property(name="undercroft:known-exploited-on", value=finding.known_exploited_on.isoformat())
    if finding.exploit_probability is not None:
        yield Property(name="undercroft:epss", value=f"{finding.exploit_probability:.5f}")


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None
