"""Values for tests of the record: small, complete, and each field changed by name."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from undercroft.model.disk import Coverage
from undercroft.model.domain import Domain, PoolVolume, Power, Survey
from undercroft.model.execution import Execution, HookEvent, Origin
from undercroft.model.finding import Assessment, EndOfLife, Finding, FixState, Severity
from undercroft.model.fleet import DiskRead, FileIdentity, ReadSet, Scan
from undercroft.model.inventory import Boot, Inventory, OsRelease, Package
from undercroft.model.verdict import (
    Action,
    Decision,
    Judgement,
    Outcome,
    RuleResult,
    Subject,
    SubjectKind,
    Verdict,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
UUID = "6f0c0f6e-0000-4000-8000-000000000001"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def uuid(number: int) -> str:
    return f"6f0c0f6e-0000-4000-8000-{number:012x}"


def eid(number: int) -> str:
    return f"{number:032x}"


def domain(number: int = 1, name: str = "", **changes: object) -> Domain:
    return replace(Domain(uuid(number), name or f"vm{number:04}", Power.OFF), **changes)  # type: ignore[arg-type]


def survey(*domains: Domain, at: datetime = NOW, host: str = "host1", **changes: object) -> Survey:
    volumes = (PoolVolume("default", "a.qcow2", "/images/a.qcow2", "qcow2", 1 << 30),)
    return replace(Survey(host, "qemu:///system", at, domains, volumes), **changes)  # type: ignore[arg-type]


def subject(key: str = "machine:1", **changes: object) -> Subject:
    plain = Subject(key, SubjectKind.MACHINE, key, "host1", key.split(":")[1])
    return replace(plain, **changes)  # type: ignore[arg-type]


def inventory(packages: int = 3, **changes: object) -> Inventory:
    listed = tuple(
        Package("dpkg", f"package{number}", f"1.{number}", "amd64", f"source{number}", f"1.{number}")
        for number in range(packages)
    )
    release = OsRelease("debian", "12", "bookworm", "Debian GNU/Linux 12", "/etc/os-release")
    whole = Inventory(release, "web01", listed, (), Boot(), 0, (), Coverage(()))
    return replace(whole, **changes)  # type: ignore[arg-type]


def reads(number: int = 1) -> ReadSet:
    return ReadSet((DiskRead(0, 4096 * number, 512),), (1 << 30,), f"{number:064x}")


def identity(inode: int = 10, changed_ns: int = 7, **changes: object) -> FileIdentity:
    plain = FileIdentity("/images/a.qcow2", 2049, inode, 1 << 20, 5, changed_ns)
    return replace(plain, **changes)  # type: ignore[arg-type]


def scan(subject: str = "machine:1", inventory: str = "", **changes: object) -> Scan:
    plain = Scan(subject, inventory, "s", "", "f", "l", (identity(),), (), NOW)
    return replace(plain, **changes)  # type: ignore[arg-type]


def finding(number: int) -> Finding:
    return Finding(
        vulnerability=f"CVE-2026-{number:05}",
        packages=("libexample", "example-bin"),
        source="example",
        installed_version="1.0-1",
        fixed_version="1.0-2",
        fix=FixState.FIXABLE,
        severity=Severity.HIGH,
        severity_source="cve:cvss3.1:9.8",
        advisories=("DSA-1-1",),
        feeds=("debian-dsa", "debian-tracker"),
        title="a title of usual length, which says what is wrong",
        published_on=NOW.date(),
    )


def assessment(findings: int = 2) -> Assessment:
    lifetime = EndOfLife(None, None, "supported")
    return Assessment(tuple(finding(number) for number in range(findings)), (), (), lifetime, ())


def judgement(
    subject: str = "machine:1", *, rules: int = 2, at: datetime = NOW, **changes: object
) -> Judgement:
    results = tuple(
        RuleResult(f"rule{number}", Outcome.PASS, "nothing stands against it", "policy.yaml:12", ("item",))
        for number in range(rules)
    )
    plain = Judgement(subject, Verdict.STEADY, Action.ALLOW, results, "p" * 64, "a1", at, NOW)
    return replace(plain, **changes)  # type: ignore[arg-type]


def decision(ident: str = "d1", **changes: object) -> Decision:
    plain = Decision(ident, UUID, "vm0001", eid(1), Action.ALLOW, False, "steady", NOW, "agent")
    return replace(plain, **changes)  # type: ignore[arg-type]


def execution(number: int = 1, machine: str = UUID, **changes: object) -> Execution:
    plain = Execution(eid(number), machine, "vm0001", "host1", Origin.FIRST, "", "", later(number))
    return replace(plain, **changes)  # type: ignore[arg-type]


def event(ident: str = "e1", **changes: object) -> HookEvent:
    plain = HookEvent(ident, 1, "vm0001", UUID, "prepare", "begin", "-", eid(1), "<domain/>")
    return replace(plain, **changes)  # type: ignore[arg-type]
