"""Which of several severities a finding shows, and whose it is.

The distribution's own word comes first, since it knows how it builds and ships the package; then the CVE
record's, then whatever else a feed gives. Among equals the worst one counts. When nobody gives one it is
`unknown`: it is never derived from anything.
"""

from collections.abc import Iterable

from undercroft.advisories.records import Advisory, Vulnerability
from undercroft.model.finding import Severity

RANK = {severity: rank for rank, severity in enumerate(Severity)}
"""Position of a severity, worst first."""

_OWN, _RECORD, _OTHER = range(3)
_DISTRIBUTIONS = ("debian:", "ubuntu:", "redhat:", "suse:", "arch:")
_NOBODY = (_OTHER, RANK[Severity.UNKNOWN], "")
_BY_RANK = tuple(Severity)


def choose(
    statements: Iterable[Advisory], vulnerabilities: Iterable[Vulnerability] = ()
) -> tuple[Severity, str]:
    """Return (severity, who gives it) for one vulnerability in one source package."""
    given = [
        (
            _OWN if statement.severity_source.startswith(_DISTRIBUTIONS) else _OTHER,
            RANK[statement.severity],
            statement.severity_source,
        )
        for statement in statements
        if statement.severity is not Severity.UNKNOWN
    ]
    given += [
        (_RECORD, RANK[record.severity], record.severity_source)
        for record in vulnerabilities
        if not record.rejected and record.severity is not Severity.UNKNOWN
    ]
    _, rank, source = min(given, default=_NOBODY)
    return _BY_RANK[rank], source
