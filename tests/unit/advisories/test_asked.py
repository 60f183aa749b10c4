"""What feeds can answer: a whole tracker knows what has no fix, one document of it does not."""

import pytest
from advisorydata import NOW, edition, header

from undercroft.advisories.asked import knows_severities, knows_unfixed


@pytest.mark.parametrize(
    ("name", "is_tracker"),
    [
        ("debian-tracker", True),
        ("osv:Debian:12", True),
        ("redhat-vex", True),
        ("ubuntu-vex", True),
        ("arch", True),
        ("redhat-vex:CVE-2024-0001", False),
        ("ubuntu-vex:CVE-2024-0001", False),
        ("osv:DSA-1-1", False),
        ("osv:AlmaLinux:9", False),
        ("alpine-secdb:3.19:main", False),
    ],
)
def test_only_a_whole_tracker_knows_what_is_not_fixed(name: str, *, is_tracker: bool) -> None:
    assert knows_unfixed([edition(header(name)).status(NOW)]) is is_tracker


@pytest.mark.parametrize(
    ("name", "is_rated"),
    [
        ("osv:AlmaLinux", True),
        ("redhat-vex", True),
        ("microsoft:2024-Aug", True),
        ("alpine-secdb:3.19:main", False),
    ],
)
def test_some_feeds_carry_no_severity_at_all(name: str, *, is_rated: bool) -> None:
    assert knows_severities([edition(header(name)).status(NOW)]) is is_rated
