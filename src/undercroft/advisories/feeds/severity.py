"""CVSS vectors to severities, with the `cvss` package doing the arithmetic.

Follows the qualitative scale of CVSS v3.1 section 5 and v4.0 section 6, which is also applied to v2:
0 none, below 4 low, below 7 medium, below 9 high, from 9 on critical.
"""

from functools import lru_cache

from cvss import CVSS2, CVSS3, CVSS4, CVSSError

from undercroft.model.finding import Severity

MAX_VECTOR_CHARS = 512


@lru_cache(maxsize=65_536)  # the same few thousand vectors cover most records
def cvss_severity(vector: str) -> tuple[Severity, str]:
    """Return (severity, "cvss3.1:9.8") of an untrusted vector; (UNKNOWN, "") for a malformed one."""
    if len(vector) > MAX_VECTOR_CHARS:
        return Severity.UNKNOWN, ""
    try:
        if vector.startswith("CVSS:4.0/"):
            return rated(float(CVSS4(vector).base_score), "4.0")
        if vector.startswith(("CVSS:3.0/", "CVSS:3.1/")):
            return rated(float(CVSS3(vector).base_score), vector[5:8])
        return rated(float(CVSS2(vector).base_score), "2.0")
    except (CVSSError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError):
        return Severity.UNKNOWN, ""  # what `cvss` raises for hostile vectors, found by fuzzing


def rated(score: float, version: str) -> tuple[Severity, str]:
    """Return (severity, "cvssVERSION:SCORE") of a base score; (UNKNOWN, "") outside 0 to 10 and for NaN."""
    if not 0 <= score <= 10:
        return Severity.UNKNOWN, ""
    source = f"cvss{version}:{score:.1f}"
    if score >= 9:
        return Severity.CRITICAL, source
    if score >= 7:
        return Severity.HIGH, source
    if score >= 4:
        return Severity.MEDIUM, source
    return (Severity.LOW if score > 0 else Severity.NEGLIGIBLE), source
