"""A fleet as a record holds it: twelve machines in every verdict, templates, images, snapshots, holds.

    fill(records)          # writes it all, as of NOW
    SURVEY                 # what the hypervisor said

Names that an attacker chose are among them (`reports.EVIL`).
"""

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

import reports

from undercroft.model.credentials import Account, Certificate, Credentials, Key, Secret
from undercroft.model.domain import (
    ChainEntry,
    DiskKind,
    Domain,
    DomainCheckpoint,
    DomainDisk,
    DomainSnapshot,
    Interface,
    Ownership,
    PoolVolume,
    Power,
    Survey,
)
from undercroft.model.execution import Execution, Origin
from undercroft.model.finding import Finding, FixState, Severity
from undercroft.model.fleet import FileIdentity, Floor, FloorEntry, HeldTap, Hold, Scan
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
from undercroft.ports.records import Record, Records

NOW = reports.NOW
HOST = "host1"
IMAGES = "/var/lib/libvirt/images"
POLICY, ADVISORIES = "5e" * 32, "20250601-1"
BASE = f"{IMAGES}/debian-12-base.qcow2"


def ago(**span: float) -> datetime:
    """Return the time that is so long before NOW: `ago(days=3)`."""
    return NOW - timedelta(**span)


def uuid(number: int) -> str:
    """Return the UUID of the machine with that number."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def disk(name: str, **changes: object) -> DomainDisk:
    """Return a linked clone's disk."""
    base = DomainDisk(
        "vda", "disk", DiskKind.FILE, f"{IMAGES}/{name}.qcow2", "qcow2", (ChainEntry(BASE, "qcow2"),)
    )
    return replace(base, **changes)


def interface(number: int, *, running: bool = True) -> Interface:
    """Return an interface on the default network."""
    tap = f"vnet{number}" if running else ""
    return Interface(f"52:54:00:00:00:{number:02x}", "network", "default", "virbr0" if running else "", tap)


def domain(number: int, name: str, power: Power = Power.RUNNING, **changes: object) -> Domain:
    """Return a machine with one disk and one interface."""
    running = power in {Power.RUNNING, Power.PAUSED}
    base = Domain(
        uuid(number),
        name,
        power,
        libvirt_id=number if running else 0,
        genid=True,
        disks=(disk(f"disk{number}"),),
        interfaces=(interface(number, running=running),),
        ownership=Ownership("web team", ("prod",)),
    )
    return replace(base, **changes)


def snapshot(name: str, parent: str = "", days_ago: float = 9) -> DomainSnapshot:
    """Return an internal snapshot of a running machine."""
    taken = int(ago(days=days_ago).timestamp())
    return DomainSnapshot(name, parent, taken, "running", "internal", "")


WEB01 = domain(
    1,
    "web01",
    snapshots=(
        snapshot("installed", days_ago=40),
        snapshot("before-upgrade", "installed"),
        snapshot("nightly", "before-upgrade", days_ago=0.5),
    ),
    autostart=True,
)
WEB02 = domain(2, "web02", ownership=Ownership("web team", ("prod",), date(2025, 12, 31)))
DB01 = domain(3, "db01", snapshots=(snapshot("clean", days_ago=100),), ownership=Ownership("dba", ("prod",)))
DB02 = domain(4, "db02", Power.OFF, ownership=Ownership("dba", ("standby",)), genid=False)
MAIL01 = domain(
    5, "mail01", disks=(disk("mail01", chain=None, problem="its backing file lies in no storage pool"),)
)
BUILD = domain(6, "build-7f3a", persistent=False, ownership=Ownership(), snapshots=())
RUNNER = domain(
    7,
    "ci-runner-with-a-name-that-goes-on-for-longer-than-any-column-has-room",
    Power.PAUSED,
    ownership=Ownership("build team", ("ci",)),
)
HOSTILE = domain(
    8, reports.EVIL, Power.OFF, ownership=Ownership(reports.EVIL), snapshots=(snapshot(reports.EVIL),)
)
GATEWAY = domain(
    9,
    "gw01",
    interfaces=(interface(9), Interface("52:54:00:00:01:09", "direct", "eth1")),
    ownership=Ownership("network", ("edge",)),
    tainted=("custom-argv",),
)
ARCHIVE = domain(
    10, "old-archive", Power.OFF, ownership=Ownership("web team", ("prod",), date(2025, 5, 1)), genid=False
)
NEW = domain(11, "new01", Power.OFF, ownership=Ownership())
APP = domain(
    12,
    "app01",
    snapshots=(snapshot("warm", days_ago=1),),
    checkpoints=(
        DomainCheckpoint("nightly", "", int(ago(days=1).timestamp())),
        DomainCheckpoint(reports.EVIL, "nightly"),
    ),
    ownership=Ownership("apps", ("prod",)),
)
GOLDEN = domain(20, "golden-debian12", Power.OFF, ownership=Ownership("build team", (), None, template=True))

VOLUMES = (
    PoolVolume("images", "debian-12-base.qcow2", BASE, "qcow2", 2 << 30),
    PoolVolume("images", "forgotten.qcow2", f"{IMAGES}/forgotten.qcow2", "qcow2", 4 << 30),
    PoolVolume("images", "golden.qcow2", f"{IMAGES}/golden.qcow2", "qcow2", 2 << 30),
)
SURVEY = Survey(
    HOST,
    "qemu:///system",
    ago(minutes=1),
    tuple(
        sorted(
            (
                WEB01,
                WEB02,
                DB01,
                DB02,
                MAIL01,
                BUILD,
                RUNNER,
                HOSTILE,
                GATEWAY,
                ARCHIVE,
                NEW,
                APP,
                GOLDEN,
            ),
            key=lambda machine: machine.name,
        )
    ),
    VOLUMES,
)

UNFIXED = reports.finding(
    "CVE-2023-5678",
    severity=Severity.LOW,
    fix=FixState.UNFIXED,
    fixed_version="",
    severity_source="debian:urgency",
)
OLD = tuple(
    reports.finding(f"CVE-2024-{number:04}", source, severity=severity)
    for number, (source, severity) in enumerate(
        [("openssl", Severity.CRITICAL), ("curl", Severity.HIGH), *[("linux", Severity.MEDIUM)] * 38], 100
    )
)
"""What a machine of last month still has."""

FLOOR_PASSED = RuleResult("floor", Outcome.PASS, "it has all that the machine had fixed", "default")
FLOOR_UNKNOWN = RuleResult("floor", Outcome.UNKNOWN, "it could not be compared", "default")
PASSED = RuleResult("fixable", Outcome.PASS, "nothing that is fixed is missing for long", "default")


def result(rule: str, reason: str, outcome: Outcome = Outcome.FAIL, *items: str) -> RuleResult:
    """Return one rule's answer, from the policy's fourth line."""
    return RuleResult(rule, outcome, reason, "policy.yaml:4", items)


@dataclass(frozen=True)
class Known:
    """What is to be on record of one subject."""

    subject: Subject
    verdict: Verdict
    action: Action
    results: tuple[RuleResult, ...] = (PASSED,)
    findings: tuple[Finding, ...] | None = ()
    problems: tuple[str, ...] = ()
    since: datetime = field(default=ago(days=3))
    scanned: datetime | None = field(default=ago(hours=2))


def machine(of: Domain, verdict: Verdict, action: Action, *results: RuleResult, **changes: object) -> Known:
    """Return what is known of a machine's current state."""
    template = of.ownership.template
    kind = SubjectKind.TEMPLATE if template else SubjectKind.MACHINE
    subject = Subject(f"{kind}:{of.uuid}", kind, of.name, HOST, of.uuid)
    return replace(Known(subject, verdict, action, results or (PASSED,)), **changes)


def taken(
    of: Domain, name: str, verdict: Verdict, action: Action, *results: RuleResult, **changes: object
) -> Known:
    """Return what is known of a snapshot."""
    key = f"snapshot:{of.uuid}:{name}"
    subject = Subject(key, SubjectKind.SNAPSHOT, f"{of.name}@{name}", HOST, of.uuid, name)
    return replace(Known(subject, verdict, action, results or (PASSED,)), **changes)


def image(path: str, verdict: Verdict, action: Action, *results: RuleResult, **changes: object) -> Known:
    """Return what is known of an image of no machine."""
    kind = SubjectKind.TEMPLATE if "golden" in path else SubjectKind.IMAGE
    subject = Subject(f"image:{HOST}:{path}", kind, path, HOST)
    return replace(Known(subject, verdict, action, results or (PASSED,)), **changes)


_EXPLOITED = result(
    "known-exploited",
    "CVE-2023-4911 in glibc is known to be exploited and fixed in 2.36-9+deb12u3",
    Outcome.FAIL,
    "CVE-2023-4911 in glibc",
)
_OVERDUE = result(
    "fixable",
    "1 finding of severity high or worse has a fix for longer than 7 days: CVE-2024-0101 in curl",
    Outcome.FAIL,
    "CVE-2024-0101 in curl",
)
_BELOW = result(
    "floor",
    "40 findings that this machine had fixed are back",
    Outcome.FAIL,
    *(f"{finding.vulnerability} in {finding.source}" for finding in OLD),
)
_LUKS = "vda2 was not read: LUKS volume; it holds the root file system"
_UNREAD = result("coverage", f"not all that may hold software was read: {_LUKS}", Outcome.UNKNOWN, _LUKS)
_EXPIRED = result("expiry", "it expired on 2025-05-01", Outcome.FAIL)
_GRACE = replace(
    result(
        "fixable", "CVE-2024-0101 in curl has a fix since 2 days; 5 days of grace are left", Outcome.GRACE
    ),
    until=NOW + timedelta(days=5),
)

STEADY, DRIFTING = Verdict.STEADY, Verdict.DRIFTING
KNOWN = (
    machine(
        WEB01, DRIFTING, Action.QUARANTINE, _EXPLOITED, _OVERDUE, findings=(reports.KEV, OLD[1], UNFIXED)
    ),
    taken(WEB01, "installed", DRIFTING, Action.REFUSE, _BELOW, findings=(reports.KEV, *OLD, UNFIXED)),
    taken(WEB01, "before-upgrade", DRIFTING, Action.QUARANTINE, _EXPLOITED, findings=(reports.KEV, UNFIXED)),
    taken(WEB01, "nightly", DRIFTING, Action.QUARANTINE, _EXPLOITED, findings=(reports.KEV, OLD[1], UNFIXED)),
    machine(WEB02, STEADY, Action.ALLOW, since=ago(days=21), findings=(UNFIXED,)),
    machine(
        DB01,
        Verdict.QUARANTINED,
        Action.QUARANTINE,
        _BELOW,
        findings=OLD,
        since=ago(minutes=12),
        scanned=ago(minutes=11),
    ),
    taken(DB01, "clean", DRIFTING, Action.QUARANTINE, _BELOW, findings=OLD),
    machine(DB02, STEADY, Action.ALLOW, since=ago(days=60)),
    machine(
        MAIL01,
        Verdict.UNKNOWN,
        Action.QUARANTINE,
        _UNREAD,
        findings=(UNFIXED,),
        problems=(_LUKS,),
        since=ago(days=2),
    ),
    machine(
        BUILD,
        STEADY,
        Action.ALLOW,
        _GRACE,
        findings=(OLD[1],),
        since=ago(seconds=40),
        scanned=ago(seconds=40),
    ),
    machine(RUNNER, STEADY, Action.ALLOW, since=ago(hours=5)),
    machine(
        HOSTILE,
        DRIFTING,
        Action.REFUSE,
        result("identity", f"its machine id is also that of {reports.EVIL}"),
        findings=(reports.finding(source=reports.EVIL),),
    ),
    taken(HOSTILE, reports.EVIL, STEADY, Action.ALLOW),
    machine(GATEWAY, STEADY, Action.ALLOW, since=ago(days=90)),
    machine(ARCHIVE, DRIFTING, Action.REFUSE, _EXPIRED, _OVERDUE, findings=OLD, since=ago(days=31)),
    machine(APP, STEADY, Action.ALLOW, since=ago(days=4)),
    machine(GOLDEN, STEADY, Action.ALLOW, since=ago(days=4)),
    image(f"{IMAGES}/golden.qcow2", DRIFTING, Action.REFUSE, _OVERDUE, findings=OLD, since=ago(days=17)),
    image(
        f"{IMAGES}/forgotten.qcow2", Verdict.UNKNOWN, Action.REFUSE, _UNREAD, findings=None, problems=(_LUKS,)
    ),
)
"""Everything but new01 and app01's snapshot, which nobody has read yet."""

HOLDS = (
    Hold(
        uuid(3),
        "e3" * 16,
        (HeldTap("vnet3", "virbr0"),),
        "below its patch floor",
        ago(minutes=12),
        pending=False,
    ),
    Hold(
        uuid(12),
        "ec" * 16,
        (HeldTap("vnet12", "virbr0"),),
        "how it started is not known yet",
        ago(seconds=5),
        pending=True,
    ),
)
EXECUTIONS = (
    Execution("a1" * 16, uuid(1), "web01", HOST, Origin.FIRST, "", "", ago(days=41), ago(days=9), "stopped"),
    Execution(
        "a2" * 16,
        uuid(1),
        "web01",
        HOST,
        Origin.START,
        "a1" * 16,
        "",
        ago(days=9),
        evidence=("its disks are as execution a1a1a1a1 left them",),
    ),
    Execution(
        "e1" * 16, uuid(3), "db01", HOST, Origin.FIRST, "", "", ago(days=101), ago(minutes=12), "superseded"
    ),
    Execution(
        "e3" * 16,
        uuid(3),
        "db01",
        HOST,
        Origin.REVERT,
        "e1" * 16,
        f"snapshot:{uuid(3)}:clean:1",
        ago(minutes=12),
        evidence=("libvirt said from-snapshot",),
        certain=False,
    ),
    Execution("9a" * 16, uuid(9), "gw01", HOST, Origin.START, "", "", ago(days=90)),
    Execution("9b" * 16, uuid(9), "gw01", "host2", Origin.FORK, "9a" * 16, "", ago(minutes=30)),
)
DECISIONS = (
    Decision("d1" * 16, uuid(1), "web01", "a2" * 16, Action.ALLOW, False, "steady", ago(days=9), "agent"),
    Decision(
        "d3" * 16,
        uuid(3),
        "db01",
        "e3" * 16,
        Action.QUARANTINE,
        True,
        "below its patch floor",
        ago(minutes=12),
        "agent",
    ),
    Decision(
        "da" * 16,
        uuid(10),
        "old-archive",
        "",
        Action.REFUSE,
        False,
        "it expired on 2025-05-01",
        ago(hours=3),
        "agent",
    ),
)
CREDENTIALS = Credentials(
    (
        Account("admin", 1000, "/bin/bash", "set", 20_000),
        Account("daemon", 1, "/usr/sbin/nologin", "locked", -1),
    ),
    (
        Key(
            "authorized",
            "admin",
            "ssh-ed25519",
            "SHA256:" + "a" * 43,
            "/home/admin/.ssh/authorized_keys",
            reports.EVIL,
        ),
        Key(
            "host", "", "ssh-ed25519", "SHA256:" + "b" * 43, "/etc/ssh/ssh_host_ed25519_key.pub", "root@web01"
        ),
    ),
    (Certificate("/etc/ssl/certs/web01.pem", "c" * 64),),
    (Secret("/etc/ssl/private/web01.key", "private key"),),
)
FLOORS = (
    Floor(uuid(1), (FloorEntry("debian:12", "glibc", "2.36-9+deb12u3", ago(days=9)),)),
    Floor(
        uuid(3), tuple(FloorEntry("debian:12", name, "1.0-2", ago(days=30)) for name in ("curl", "openssl"))
    ),
)


def fill(records: Records) -> None:
    """Put the whole fleet on record, and what a program did meanwhile into its log."""
    with records.transaction() as record:
        record.put_survey(SURVEY)
        for known in KNOWN:
            _put(record, known)
        for hold in HOLDS:
            record.put_hold(hold)
        for execution in EXECUTIONS:
            record.put_execution(execution)
        for decision in DECISIONS:
            record.put_decision(decision)
        for floor in FLOORS:
            record.put_floor(floor)
        record.log("agent", HOST, {"agent": "alive"}, ago(seconds=20))


def _put(record: Record, known: Known) -> None:
    key = known.subject.key
    record.put_subject(known.subject)
    inventory = software = credentials = ""
    if known.findings is not None:
        packages = [reports.package(finding.source, finding.installed_version) for finding in known.findings]
        machine_inventory = reports.inventory(
            *packages, hostname=known.subject.machine, problems=known.problems
        )
        inventory, software = record.put_inventory(machine_inventory, None)
        record.put_assessment(software, ADVISORIES, reports.assessment(*known.findings))
        credentials = record.put_credentials(CREDENTIALS)
    if known.scanned:
        files = (FileIdentity(BASE, 1, 2, 3, 4, 5),)
        record.put_scan(
            Scan(
                key,
                inventory,
                software,
                credentials,
                "f" * 64,
                "1" * 64,
                files,
                known.problems,
                known.scanned,
            )
        )
    results = known.results
    if not any(answer.rule == "floor" for answer in results):
        results += (FLOOR_PASSED if known.findings is not None else FLOOR_UNKNOWN,)
    judged = Judgement(
        key, known.verdict, known.action, results, POLICY, ADVISORIES, ago(minutes=2), known.since
    )
    record.put_judgements((judged,))
