"""Scan reports for tests of what the user sees: one that looks like a real machine, and its parts."""

from dataclasses import replace
from datetime import UTC, date, datetime

from undercroft.model.disk import Coverage, Volume, VolumeStatus
from undercroft.model.finding import (
    Assessment,
    EndOfLife,
    FeedStatus,
    Finding,
    FixState,
    Outdated,
    Severity,
    Unassessed,
)
from undercroft.model.inventory import Boot, Inventory, Kernel, OsRelease, Package
from undercroft.model.report import DiskReport, ScanReport, StateReport

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
EVIL = "evil\x1b[31m\u202e\udcff[bold]\\\n"
"""A name as an attacker writes it: colours, right-to-left, an undecodable byte, markup, a new line."""


def package(name: str, version: str, source: str = "", architecture: str = "amd64") -> Package:
    return Package("dpkg", name, version, architecture, source or name, version)


def finding(vulnerability: str = "CVE-2024-0001", source: str = "openssl", **changes: object) -> Finding:
    base = Finding(
        vulnerability=vulnerability,
        packages=(source,),
        source=source,
        installed_version="1.0-1",
        fixed_version="1.0-2",
        fix=FixState.FIXABLE,
        severity=Severity.MEDIUM,
        severity_source="cve:cvss3.1:5.3",
        advisories=("DSA-1-1",),
        feeds=("debian-dsa",),
    )
    return replace(base, **changes)


KEV = finding(
    "CVE-2023-4911",
    "glibc",
    packages=("libc-bin", "libc6", "locales"),
    installed_version="2.36-9+deb12u1",
    fixed_version="2.36-9+deb12u3",
    severity=Severity.HIGH,
    severity_source="cve:cvss3.1:7.8",
    advisories=("DSA-5514-1",),
    title="dynamic loader: buffer overflow in processing GLIBC_TUNABLES (Looney Tunables)",
    published_on=date(2023, 10, 3),
    fixed_on=date(2023, 10, 3),
    known_exploited_on=date(2023, 11, 21),
    exploit_probability=0.712,
)
FINDINGS = (
    KEV,
    finding("CVE-2024-5535", severity=Severity.CRITICAL, severity_source="cve:cvss3.1:9.1"),
    finding("CVE-2024-0727"),
    finding("CVE-2023-5678", severity=Severity.LOW, fix=FixState.UNFIXED, fixed_version=""),
    finding("CVE-2024-9999", "curl", severity=Severity.UNKNOWN, severity_source="", advisories=()),
)
SUPPORTED = EndOfLife(date(2026, 6, 10), date(2028, 6, 30), "supported")
FEEDS = (
    FeedStatus("debian-tracker", "20250601", datetime(2025, 6, 1, 9, tzinfo=UTC), NOW, NOW, 41_233),
    FeedStatus("kev", "2025.05.31", datetime(2025, 5, 31, 12, tzinfo=UTC), NOW, NOW, 1_352),
    FeedStatus("epss", "2025-05-30", datetime(2025, 5, 30, tzinfo=UTC), NOW, NOW, 240_000, stale=True),
)
MIRROR = (FeedStatus("mirror:debian:12:bookworm-security", "20250601", None, NOW, NOW, 3_016),)
"""A mirror alone: no catalog, no tracker, no severities."""
ROOT = Volume(
    "vda", 1, 1 << 20, 2 << 30, "ext4", "root", "", "", VolumeStatus.READ, ("/",), "journal replayed"
)
SWAP = Volume("vda", 2, 2 << 30, 1 << 29, "swap", "", "", "", VolumeStatus.NOT_APPLICABLE)


def assessment(*found: Finding, **changes: object) -> Assessment:
    base = Assessment(tuple(found), (), (), SUPPORTED, FEEDS)
    return replace(base, **changes)


def inventory(*packages: Package, problems: tuple[str, ...] = (), **changes: object) -> Inventory:
    base = Inventory(
        os=OsRelease("debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)", "/etc/os-release"),
        hostname="web01",
        packages=packages,
        kernels=(Kernel("6.1.0-28-amd64", "/boot/vmlinuz-6.1.0-28-amd64", "linux-image-6.1.0-28-amd64"),),
        boot=Boot("6.1.0-28-amd64", "/boot/grub/grub.cfg", "6.1.0-25-amd64", "/var/log/dmesg"),
        unowned_executables=0,
        unowned_examples=(),
        coverage=Coverage((ROOT, SWAP), problems),
    )
    return replace(base, **changes)


def state(name: str = "current", ident: str = "", **changes: object) -> StateReport:
    base = StateReport(
        name=name,
        ident=ident,
        created_at_s=1_748_000_000 if ident else 0,
        inventory=inventory(package("openssl", "1.0-2"), package("libc6", "2.36-9+deb12u3", "glibc")),
        assessment=assessment(),
        problems=(),
        read_ms=12.5,
    )
    return replace(base, **changes)


def vulnerable(name: str = "before-upgrade", ident: str = "1") -> StateReport:
    return state(
        name,
        ident,
        inventory=inventory(package("openssl", "1.0-1"), package("libc6", "2.36-9+deb12u1", "glibc")),
        assessment=assessment(
            *FINDINGS,
            outdated=(Outdated("libc6", "glibc", "2.36-9+deb12u1", "2.36-9+deb12u3", "bookworm-security"),),
            unassessed=(Unassessed("teamviewer", "15.1", "no source lists this version"),),
        ),
    )


def report(*states: StateReport, **changes: object) -> ScanReport:
    base = ScanReport(
        machine="web01",
        disks=(DiskReport("vda", "web01.qcow2", "qcow2", "probed", (), 2 << 30),),
        states=states or (state(), vulnerable()),
        sandboxed=True,
        scanned_at=NOW,
        feeds=FEEDS,
    )
    return replace(base, **changes)
