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

_DISTRIBUTIONS = ("debian", "ubuntu")


def choose(statements: Iterable[Advisory], vulnerabilities: Iterable[Vulnerability]) -> tuple[Severity, str]:
    """Return (severity, who gives it) for one vulnerability in one source package."""
    own: list[tuple[Severity, str]] = []
    others: list[tuple[Severity, str]] = []
    for statement in statements:
        is_own = statement.severity_source.partition(":")[0] in _DISTRIBUTIONS
        (own if is_own else others).append((statement.severity, statement.severity_source))
    records = [(record.severity, record.severity_source) for record in vulnerabilities if not record.rejected]
    for group in (own, records, others):
        known = [pair for pair in group if pair[0] is not Severity.UNKNOWN]
        if known:
            return min(known, key=lambda pair: (RANK[pair[0]], pair[1]))
    return Severity.UNKNOWN, ""
