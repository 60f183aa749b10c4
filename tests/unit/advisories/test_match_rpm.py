"""rpm's distributions: binary and source packages, modules, streams, and what a publisher says of a fix."""

from dataclasses import replace
from pathlib import Path

import pytest
from advisorydata import NOW, VEX, assessed, edition, header, inventory, statement
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from undercroft.advisories.knowledge import gather
from undercroft.advisories.match import assess
from undercroft.advisories.records import ANY_STREAM, Advisory, Status, VexStatement, VexStatus, subject_name
from undercroft.model.finding import Assessment, Finding, FixState
from undercroft.model.inventory import Boot, Inventory, Kernel, OsRelease, Package
from undercroft.store.database import AdvisoryDatabase

RHEL = "rhel:9"
OS = OsRelease("rhel", "9.4", "", "Red Hat Enterprise Linux 9.4 (Plow)", "/etc/os-release")
FEED = header("redhat-vex", (RHEL,), complete=True)
ERRATA = header("osv:RedHat", (RHEL,))


def rpm(name: str, version: str, source: str = "", source_version: str = "", module: str = "") -> Package:
    return Package("rpm", name, version, "x86_64", source or name, source_version or version, module=module)


def machine(*packages: Package, **more: object) -> Inventory:
    return inventory(*packages, os=OS, **more)


def binary(name: str, fixed: str = "", module: str = "", feed=FEED, **fields: object) -> Advisory:
    subject = subject_name(name, binary=True, module=module)
    return statement(feed, subject, "CVE-2026-0001", fixed, **fields)


def source(name: str, fixed: str = "", module: str = "", **fields: object) -> Advisory:
    return statement(FEED, subject_name(name, module=module), "CVE-2026-0001", fixed, **fields)


def answer(state: Inventory, *statements: Advisory, feed=FEED) -> Assessment:
    return assessed(state, (feed, list(statements)), release=RHEL)


def only(state: Inventory, *statements: Advisory) -> Finding:
    (finding,) = answer(state, *statements).findings
    return finding


OPENSSL = rpm("openssl-libs", "1:3.0.7-24.el9", "openssl", "3.0.7-24.el9")


def test_a_binary_package_is_judged_in_rpms_order() -> None:
    assert only(machine(rpm("a", "1.0~rc1-1.el9")), binary("a", "1.0-1.el9")).fixed_version == "1.0-1.el9"
    assert answer(machine(rpm("a", "1.0^git1-1.el9")), binary("a", "1.0-2.el9")).findings == ()
    assert answer(machine(rpm("a", "1:0.1-1.el9")), binary("a", "9.0-1.el9")).findings == ()


def test_packages_of_one_source_are_one_finding() -> None:
    state = machine(OPENSSL, replace(OPENSSL, name="openssl"))
    finding = only(state, binary("openssl", "1:3.0.7-25.el9"), binary("openssl-libs", "1:3.0.7-25.el9"))
    assert (finding.source, finding.packages) == ("openssl", ("openssl", "openssl-libs"))
    assert (finding.installed_version, finding.fixed_version) == ("1:3.0.7-24.el9", "1:3.0.7-25.el9")


def test_a_source_speaks_for_its_binaries_with_the_epoch_that_only_they_record() -> None:
    state = machine(OPENSSL, rpm("openssl-perl", "5-24.el9", "openssl", "3.0.7-24.el9"))
    finding = only(state, source("openssl", "1:3.0.7-25.el9"))
    assert finding.packages == ("openssl-libs", "openssl-perl")
    assert answer(state, source("openssl", "1:3.0.7-24.el9")).findings == ()


def test_what_is_said_of_a_binary_package_goes_before_what_is_said_of_its_source() -> None:
    state = machine(OPENSSL, replace(OPENSSL, name="openssl"))
    cleared = binary("openssl-libs", status=Status.NOT_AFFECTED)
    assert only(state, source("openssl"), cleared).packages == ("openssl",)
    assert only(state, source("openssl"), binary("openssl-libs", "1:3.0.7-24.el9")).packages == ("openssl",)


def test_a_binary_and_a_source_package_of_one_name_are_not_confused() -> None:
    state = machine(rpm("perl-Errno", "1.30-480.el9", "perl", "5.32.1-480.el9"))
    assert answer(state, binary("perl", "9.0-1.el9")).findings == ()
    assert only(state, source("perl", "4:5.32.1-481.el9")).packages == ("perl-Errno",)


@pytest.mark.parametrize("module", ["nodejs:20", ""])
def test_a_modules_fix_counts_for_that_module_and_stream_only(module: str) -> None:
    state = machine(rpm("npm", "1:9.0-1.module+el9", module="nodejs:18"))
    assert answer(state, binary("npm", "1:10.0-1.module+el9", module)).findings == ()
    assert only(state, binary("npm", "1:10.0-1.module+el9", "nodejs:18")).fix is FixState.FIXABLE
    assert only(state, binary("npm", "1:10.0-1.module+el9", ANY_STREAM)).fix is FixState.FIXABLE


def test_a_modules_fix_does_not_count_for_a_package_of_no_module() -> None:
    state = machine(rpm("npm", "1:9.0-1.el9"))
    assert answer(state, binary("npm", "1:10.0-1.module+el9", "nodejs:18")).findings == ()
    assert answer(state, binary("npm", "1:10.0-1.module+el9", ANY_STREAM)).findings == ()


def test_a_package_that_hides_its_stream_is_a_problem_and_not_clean() -> None:
    state = machine(rpm("npm", "1:9.0-1.module+el9.1.0+1+a"))
    found = answer(state, binary("npm", "1:10.0-1.module+el9", "nodejs:18"))
    assert found.findings == ()
    assert any("built for a module and do not say for which stream" in line for line in found.problems)


def test_a_package_that_hides_behind_a_modules_label_is_a_problem_and_not_clean() -> None:
    found = answer(machine(replace(OPENSSL, module="m:1")), binary("openssl-libs", "1:3.0.7-25.el9"))
    assert found.findings == ()
    assert any("bear a module's label and were not built for one" in line for line in found.problems)


@pytest.mark.parametrize(
    ("status", "fix"),
    [
        (Status.UNFIXED, FixState.UNFIXED),
        (Status.WILL_NOT_FIX, FixState.WILL_NOT_FIX),
        (Status.OUT_OF_SUPPORT, FixState.OUT_OF_SUPPORT),
        (Status.INVESTIGATED, FixState.UNDER_INVESTIGATION),
    ],
)
def test_a_finding_says_why_there_is_no_fix(status: Status, fix: FixState) -> None:
    finding = only(machine(OPENSSL), source("openssl", status=status))
    assert (finding.fix, finding.fixed_version, finding.fixed_on) == (fix, "", None)


def test_the_best_fix_of_a_sources_packages_leads() -> None:
    state = machine(OPENSSL, replace(OPENSSL, name="openssl"))
    refused = binary("openssl", status=Status.WILL_NOT_FIX)
    finding = only(state, refused, binary("openssl-libs", "1:3.0.7-25.el9"))
    assert (finding.fix, finding.fixed_version) == (FixState.FIXABLE, "1:3.0.7-25.el9")
    assert finding.packages == ("openssl", "openssl-libs")


EUS = binary("a", "1.0-3.el9_2", stream="eus")


@pytest.mark.parametrize(
    ("installed", "statements", "fix"),
    [
        ("1.0-3.el9_2", [binary("a", "1.0-9.el9"), EUS], None),
        ("1.0-2.el9_2", [binary("a", "1.0-9.el9"), EUS], FixState.FIXABLE),
        ("1.0-4.el9_4", [binary("a", "1.0-9.el9"), EUS], FixState.FIXABLE),
        ("1.0-2.el9_2", [binary("a"), EUS], FixState.NEEDS_SUBSCRIPTION),
        ("1.0-4.el9_4", [binary("a"), EUS], FixState.UNFIXED),
        ("1.0-2.el9_2", [EUS], FixState.NEEDS_SUBSCRIPTION),
        ("1.0-2.el9", [EUS], FixState.NEEDS_SUBSCRIPTION),
        ("1.0-4.el9_4", [EUS], None),
        ("1.0-9.el9", [binary("a", "1.0-9.el9"), EUS], None),
        ("1.0-1.el9", [binary("a", status=Status.OUT_OF_SUPPORT), EUS], FixState.OUT_OF_SUPPORT),
    ],
)
def test_an_extended_streams_fix_counts_for_builds_of_its_minor_release(
    installed: str, statements: list[Advisory], fix: FixState | None
) -> None:
    found = answer(machine(rpm("a", installed)), *statements).findings
    assert [finding.fix for finding in found] == ([] if fix is None else [fix])


def test_several_builds_in_one_erratum_are_each_fixed_by_it() -> None:
    builds = [binary("a", version, advisory="RHSA-1") for version in ("1.0-2.el9_1", "1.0-3.el9_1")]
    assert answer(machine(rpm("a", "1.0-2.el9_1")), *builds).findings == ()
    assert only(machine(rpm("a", "1.0-1.el9_1")), *builds).fixed_version == "1.0-3.el9_1"
    later = binary("a", "1.0-4.el9_1", advisory="RHSA-2")
    assert only(machine(rpm("a", "1.0-2.el9_1")), *builds, later).fixed_version == "1.0-4.el9_1"


def test_packages_of_other_managers_are_listed_and_never_matched() -> None:
    pip = Package("pypi", "openssl", "0.1", "", "openssl", "0.1")
    found = answer(machine(OPENSSL, pip), source("openssl", "1:3.0.7-24.el9"), binary("openssl", "1-1.el9"))
    assert found.findings == ()
    assert "1 packages of pypi are listed, no advisories are matched with them" in found.notes
    assert not found.problems


def test_every_installed_kernel_is_judged_and_the_one_that_boots_is_told() -> None:
    kernels = [rpm("kernel-core", version, "kernel") for version in ("5.14.0-70.el9", "5.14.0-503.el9")]
    images = tuple(
        Kernel(f"{item.version}.x86_64", f"/boot/vmlinuz-{item.version}.x86_64", "kernel-core")
        for item in kernels
    )
    state = machine(*kernels, kernels=images, boot=Boot("5.14.0-70.el9.x86_64", "/boot/loader"))
    finding = only(state, binary("kernel-core", "5.14.0-400.el9"))
    assert finding.installed_version == "5.14.0-70.el9"


def test_the_users_own_word_names_rpm_packages_with_their_epoch() -> None:
    def applied(purl: str) -> tuple[int, int]:
        own = VexStatement("ours", "CVE-2026-0001", (purl,), VexStatus.NOT_AFFECTED, "unreachable", NOW)
        editions = [(edition(FEED), [binary("openssl-libs", "1:9-1.el9")]), (edition(VEX), [own])]
        found = assess(machine(OPENSSL), gather(RHEL, editions), now=NOW)
        return len(found.findings), len(found.suppressed)

    assert applied("pkg:rpm/redhat/openssl-libs@3.0.7-24.el9?arch=x86_64&epoch=1") == (0, 1)
    assert applied("pkg:rpm/redhat/openssl-libs@3.0.7-24.el9?epoch=2") == (1, 0)
    assert applied("pkg:rpm/almalinux/openssl-libs@3.0.7-24.el9?epoch=1") == (1, 0)
    assert applied("pkg:deb/redhat/openssl-libs") == (1, 0)
    assert applied("pkg:rpm/redhat/openssl-libs?distro=rhel-9.4") == (0, 1)
    assert applied("pkg:rpm/rhel/openssl-libs?distro=rhel-9") == (0, 1)
    assert applied("pkg:rpm/redhat/openssl-libs?distro=rhel-8.10") == (1, 0)
    assert applied("pkg:rpm/redhat/openssl-libs?distro=fedora-9") == (1, 0)


@pytest.mark.parametrize(
    ("os", "cure"),
    [
        (OsRelease("ol", "9.4", "", "Oracle Linux", ""), "updateinfo.xml of each of its repositories"),
        (OsRelease("centos", "9", "", "CentOS Stream 9", ""), "centos-stream:9: there are none: its"),
        (OsRelease("centos", "7", "", "CentOS Linux 7 (Core)", ""), "centos:7: there are none: its"),
        (OsRelease("fedora", "41", "", "Fedora Linux 41", ""), "updateinfo.xml of each of its repositories"),
        (
            OsRelease("amzn", "2023", "", "Amazon Linux 2023", ""),
            "updateinfo.xml of each of its repositories",
        ),
        (OsRelease("rocky", "9.4", "", "Rocky Linux", ""), "undercroft feeds update osv:RockyLinux"),
        (OsRelease("sles", "15.6", "", "SLES 15 SP6", ""), "undercroft feeds update osv:SUSE"),
        (OsRelease("arch", "", "", "Arch Linux", ""), "undercroft feeds update arch"),
    ],
)
def test_a_release_without_feeds_is_a_problem_with_its_cure(os: OsRelease, cure: str) -> None:
    from undercroft.advisories.releases import release_key  # noqa: PLC0415 - one test

    state = inventory(Package("rpm", "a", "1-1", "x86_64", "a", "1-1"), os=os)
    found = assess(state, gather(release_key(os), []), now=NOW)
    assert any(cure in problem for problem in found.problems)


NAMES = st.sampled_from(["a", "b", "a-libs"])
MODULES = st.sampled_from(["", "m:1", "m:2"])
EVRS = st.sampled_from(["1-1", "1-2", "1~a-1", "1:0-1", "2-1.el9_2", "2-2.el9_2"])
STATUSES = st.sampled_from(list(Status))


@st.composite
def statements_of(draw, feed) -> Advisory:
    status = draw(STATUSES)
    module = draw(st.sampled_from(["", "m:1", ANY_STREAM]))
    subject = subject_name(draw(NAMES), binary=draw(st.booleans()), module=module)
    fixed = draw(EVRS) if status is Status.FIXED else ""
    stream = draw(st.sampled_from(["", "", "eus"]))
    number = draw(st.integers(1, 3))
    return statement(feed, subject, f"CVE-2026-{number}", fixed, status=status, stream=stream)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    vex=st.lists(statements_of(FEED), max_size=6),
    errata=st.lists(statements_of(ERRATA), max_size=6),
    packages=st.lists(st.builds(rpm, NAMES, EVRS, st.sampled_from(["a", "b"]), EVRS, MODULES), max_size=4),
)
def test_the_database_gives_all_that_matching_needs(
    tmp_path: Path, vex: list[Advisory], errata: list[Advisory], packages: list[Package]
) -> None:
    state = machine(*packages)
    path = tmp_path / "a.db"
    path.unlink(missing_ok=True)
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(FEED, vex, NOW)
        database.replace_feed(ERRATA, errata, NOW)
        kept = database.knowledge(RHEL, state)
    plain = gather(
        RHEL, [(edition(feed, len(records)), records) for feed, records in ((FEED, vex), (ERRATA, errata))]
    )
    found = assess(state, kept, now=NOW)
    assert found.findings == assess(state, plain, now=NOW).findings
    names = [(finding.source, finding.vulnerability) for finding in found.findings]
    assert len(set(names)) == len(names)
