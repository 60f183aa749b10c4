"""The user's own OpenVEX statements take findings away, visibly and no further than they say."""

from datetime import UTC, datetime, timedelta

import pytest
from advisorydata import NOW, TRACKER, VEX, assessed, inventory, package, statement

from undercroft.advisories.records import VexStatement, VexStatus

MACHINE = inventory(package("libssl3", "3.0.11-1+b1", "openssl", "3.0.11-1"), package("openssl", "3.0.11-1"))
FEED = [statement(TRACKER, "openssl", "CVE-1"), statement(TRACKER, "openssl", "CVE-2")]


def vex(
    *products: str, status: VexStatus = VexStatus.NOT_AFFECTED, at: datetime = NOW, number: str = "CVE-1"
):
    return VexStatement("https://example.com/vex", number, products, status, "component_not_present", at)


def answer(*statements: VexStatement):
    return assessed(MACHINE, (TRACKER, FEED), (VEX, statements))


@pytest.mark.parametrize(
    "products",
    [
        (),
        ("openssl",),
        ("libssl3", "openssl"),
        ("pkg:deb/debian/openssl?arch=source",),
        ("pkg:deb/debian/openssl@3.0.11-1?arch=source&distro=bookworm",),
        ("pkg:deb/debian/openssl@3.0.11-1?distro=debian-12",),
        ("pkg:deb/debian/libssl3@3.0.11-1%2Bb1?arch=amd64", "pkg:deb/debian/openssl@3.0.11-1?arch=amd64"),
        ("pkg:oci/app", "openssl"),
    ],
)
def test_a_statement_about_all_packages_of_a_finding_takes_it_away(products: tuple[str, ...]) -> None:
    result = answer(vex(*products))
    assert [finding.vulnerability for finding in result.findings] == ["CVE-2"]
    (gone,) = result.suppressed
    assert (gone.vulnerability, gone.packages) == ("CVE-1", ("libssl3", "openssl"))
    assert gone.feeds == ("debian-tracker", "openvex:https://example.com/vex")
    assert result.complete


@pytest.mark.parametrize(
    "product",
    [
        "zlib",
        "pkg:deb/debian/openssl@3.0.9-1",
        "pkg:deb/ubuntu/openssl",
        "pkg:deb/debian/openssl?distro=trixie",
        "pkg:deb/debian/openssl?arch=arm64",
        "pkg:rpm/redhat/openssl",
        "pkg:",
        "pkg:deb",
        "libssl",
    ],
)
def test_a_statement_about_something_else_takes_nothing_away(product: str) -> None:
    result = answer(vex(product))
    assert len(result.findings) == 2
    assert result.suppressed == ()


def test_a_statement_about_one_of_the_packages_leaves_the_others() -> None:
    result = answer(vex("libssl3"))
    assert [finding.packages for finding in result.findings] == [("openssl",), ("libssl3", "openssl")]
    assert [finding.packages for finding in result.suppressed] == [("libssl3",)]


def test_a_statement_about_one_version_does_not_cover_another_one_beside_it() -> None:
    two = inventory(package("lib", "1.0-1"), package("lib", "1.1-1", architecture="i386"))
    feed = [statement(TRACKER, "lib", "CVE-1")]
    assert assessed(two, (TRACKER, feed), (VEX, [vex("pkg:deb/debian/lib@1.1-1")])).suppressed == ()
    assert assessed(two, (TRACKER, feed), (VEX, [vex("pkg:deb/debian/lib")])).findings == ()


@pytest.mark.parametrize("status", [VexStatus.AFFECTED, VexStatus.UNDER_INVESTIGATION])
def test_only_not_affected_and_fixed_take_away(status: VexStatus) -> None:
    assert len(answer(vex(status=status)).findings) == 2
    assert len(answer(vex(status=VexStatus.FIXED)).findings) == 1


def test_the_latest_statement_counts_and_at_the_same_time_the_one_that_leaves_the_finding() -> None:
    later = NOW + timedelta(seconds=1)
    again = vex(status=VexStatus.AFFECTED, at=later)
    assert len(answer(vex(), again).findings) == 2
    assert len(answer(vex(at=later), vex(status=VexStatus.AFFECTED)).findings) == 1
    assert len(answer(vex(), vex(status=VexStatus.AFFECTED)).findings) == 2


def test_as_of_an_earlier_day_a_later_statement_does_not_count() -> None:
    day = datetime(2025, 1, 1, tzinfo=UTC).date()
    dated = [statement(TRACKER, "openssl", "CVE-1", published_on=day)]
    assert len(assessed(MACHINE, (TRACKER, dated), (VEX, [vex()]), as_of=day).findings) == 1
    early = vex(at=datetime(2025, 1, 1, 8, tzinfo=UTC))
    assert len(assessed(MACHINE, (TRACKER, dated), (VEX, [early]), as_of=day).findings) == 0
