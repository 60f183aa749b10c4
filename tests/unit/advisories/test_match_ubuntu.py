"""Ubuntu's two streams: everybody's archive, and what only a subscription has."""

import pytest
from advisorydata import JAMMY, UBUNTU_2204, UBUNTU_OSV, assessed, inventory, package, statement

from undercroft.advisories.records import Status
from undercroft.model.finding import FixState

ESM = statement(UBUNTU_OSV, "ffmpeg", "CVE-1", "7:4.4-1ubuntu0.1+esm2", stream="esm")
OPEN = statement(UBUNTU_OSV, "ffmpeg", "CVE-1")
FIXED = statement(UBUNTU_OSV, "ffmpeg", "CVE-1", "7:4.4-1ubuntu0.3")
NOT_AFFECTED = statement(UBUNTU_OSV, "ffmpeg", "CVE-1", status=Status.NOT_AFFECTED)
ESM_OPEN = statement(UBUNTU_OSV, "ffmpeg", "CVE-1", stream="esm")


@pytest.mark.parametrize(
    ("statements", "installed", "fix", "fixed_version"),
    [
        ([ESM], "7:4.4-1ubuntu0.1", FixState.NEEDS_SUBSCRIPTION, "7:4.4-1ubuntu0.1+esm2"),
        ([OPEN, ESM], "7:4.4-1ubuntu0.1", FixState.NEEDS_SUBSCRIPTION, "7:4.4-1ubuntu0.1+esm2"),
        ([FIXED, ESM], "7:4.4-1ubuntu0.1", FixState.FIXABLE, "7:4.4-1ubuntu0.3"),
        ([FIXED], "7:4.4-1ubuntu0.1+esm9", FixState.FIXABLE, "7:4.4-1ubuntu0.3"),
        ([OPEN, ESM_OPEN], "7:4.4-1ubuntu0.1+esm2", FixState.UNFIXED, ""),
        ([OPEN, ESM], "7:4.4-1ubuntu0.1+esm1", FixState.NEEDS_SUBSCRIPTION, "7:4.4-1ubuntu0.1+esm2"),
        ([OPEN, ESM], "7:4.4-1ubuntu0.2", FixState.UNFIXED, ""),
        ([OPEN], "7:4.4-1ubuntu0.1+esm2", FixState.UNFIXED, ""),
    ],
)
def test_a_version_is_affected(statements, installed: str, fix: FixState, fixed_version: str) -> None:
    machine = inventory(package("ffmpeg", installed), os=UBUNTU_2204)
    (finding,) = assessed(machine, (UBUNTU_OSV, statements), release=JAMMY).findings
    assert (finding.fix, finding.fixed_version) == (fix, fixed_version)


@pytest.mark.parametrize(
    ("statements", "installed"),
    [
        ([ESM], "7:4.4-1ubuntu0.1+esm2"),
        ([OPEN, ESM], "7:4.4-1ubuntu0.1+esm3"),
        ([FIXED, ESM], "7:4.4-1ubuntu0.1+esm2"),
        ([FIXED, ESM], "7:4.4-1ubuntu0.3"),
        ([FIXED, ESM_OPEN], "7:4.4-1ubuntu0.3+esm1"),
        ([NOT_AFFECTED, ESM], "7:4.4-1ubuntu0.1"),
    ],
)
def test_a_version_is_not_affected(statements, installed: str) -> None:
    machine = inventory(package("ffmpeg", installed), os=UBUNTU_2204)
    assert assessed(machine, (UBUNTU_OSV, statements), release=JAMMY).findings == ()
