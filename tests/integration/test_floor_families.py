"""The patch floor of AlmaLinux and Alpine machines on a verdict's way: feeds, database, record, judge.

A machine is read patched, its floor is raised, and a snapshot of it from before is judged. What has to come
back is told without a floor: the findings of the one state that the other has not. Over a real machine and
real errata where a checkout has them, and over small ones that are made here.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from advisorydata import inventory
from memoryrecords import MemoryRecords
from recordvalues import domain, identity, reads, scan, subject, survey, uuid

from undercroft.advisories.feeds.feed import FeedInput
from undercroft.advisories.feeds.registry import parse_any
from undercroft.model.inventory import Inventory, OsRelease, Package
from undercroft.model.verdict import Action, Judgement, Outcome, RuleResult, SubjectKind
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases.fleet.verdicts.advising import Advisor
from undercroft.usecases.fleet.verdicts.floors import raise_floors, seen_to_have
from undercroft.usecases.fleet.verdicts.judging import Judging
from undercroft.usecases.fleet.verdicts.policyfile import PolicyKeeper

NOW = datetime(2026, 8, 22, tzinfo=UTC)
ALMA = OsRelease("almalinux", "9.0", "", "AlmaLinux 9.0 (Emerald Puma)", "/etc/os-release")
ALPINE = OsRelease("alpine", "3.11.13", "", "Alpine Linux v3.11", "/etc/os-release")
POLICY = "version: 1\ndefaults: {below_floor: refuse, drifting: allow, unknown: allow}\n"
UUID = uuid(1)
MACHINE, SNAPSHOT = f"machine:{UUID}", f"snapshot:{UUID}:before"


class Fleet:
    """A record with one machine and a snapshot of it, and advisories in a database file."""

    def __init__(self, folder: Path, feeds: Sequence[tuple[str, bytes]]) -> None:
        self._database = str(folder / "advisories.db")
        with AdvisoryDatabase(self._database, writable=True) as writable:
            for name, data in feeds:
                feed = parse_any(FeedInput(name, io.BytesIO(data), NOW))
                writable.replace_feed(feed.header, feed.records, NOW)
        (folder / "policy.yaml").write_text(POLICY)
        self._policy = PolicyKeeper(folder / "policy.yaml", NOW.date).policy
        self.records = MemoryRecords(lambda: NOW)
        with self.records.transaction() as record:
            record.put_survey(survey(domain(1), at=NOW))
            machine = subject(MACHINE, machine=UUID)
            record.put_subject(machine)
            record.put_subject(
                replace(
                    machine, key=SNAPSHOT, kind=SubjectKind.SNAPSHOT, state="before", name="vm0001@before"
                )
            )

    def read(self, key: str, state: Inventory, number: int) -> None:
        """Put a state on record, and raise the floor to it where it is the machine's present one."""
        with self.records.transaction() as record:
            digest, software = record.put_inventory(state, reads(number))
            found = scan(key, digest, software=software, files=(identity(number),), scanned_at=NOW)
            record.put_scan(found)
            known = record.subject(key)
        assert known is not None
        reached = seen_to_have(known, found)
        with Advisor(self._database).advice(NOW) as advised:
            raise_floors(self.records, [reached] if reached else [], advised.knowledge)

    def judged(self) -> dict[str, Judgement]:
        with Advisor(self._database).advice(NOW) as advised:
            return dict(Judging(self.records, lambda: NOW).everything(self._policy, advised))

    def found(self, state: Inventory) -> set[str]:
        with Advisor(self._database).advice(NOW) as advised:
            return {f"{one.vulnerability} in {one.source}" for one in advised.assess(state).findings}

    def floor(self) -> dict[str, str]:
        with self.records.reading() as record:
            return {entry.source: entry.version for entry in record.floor(UUID).entries}


def rule(judgement: Judgement) -> RuleResult:
    return next(result for result in judgement.results if result.rule == "floor")


def check_rollback(fleet: Fleet, old: Inventory, patched: Inventory) -> set[str]:
    """Return what comes back, after the same was told without a floor."""
    fleet.read(SNAPSHOT, old, 1)
    assert rule(fleet.judged()[SNAPSHOT]).outcome is Outcome.PASS, "control: no floor, nothing against it"
    fleet.read(MACHINE, patched, 2)
    judged = fleet.judged()
    lost = fleet.found(old) - fleet.found(patched)
    assert lost
    assert set(rule(judged[SNAPSHOT]).items) == lost
    assert (rule(judged[SNAPSHOT]).outcome, judged[SNAPSHOT].action) == (Outcome.FAIL, Action.REFUSE)
    assert (rule(judged[MACHINE]).outcome, judged[MACHINE].action) == (Outcome.PASS, Action.ALLOW)
    floor = fleet.floor()
    fleet.read(MACHINE, old, 1)
    assert fleet.floor() == floor, "it only grows"
    assert set(rule(fleet.judged()[MACHINE]).items) == lost
    return lost


def rpm(name: str, version: str, source: str = "", module: str = "") -> Package:
    return Package("rpm", name, version, "x86_64", source or name, version.rpartition(":")[2], module=module)


def apk(name: str, version: str, source: str = "") -> Package:
    return Package("apk", name, version, "x86_64", source or name, version)


def errata(*fixes: tuple[str, str, str], count: int = 60) -> bytes:
    """Return an archive of AlmaLinux' errata: (summary, package, fixed version), and others to fill it."""
    every = [*fixes, *[("Low: z security update", "z", "1-1.el9")] * count]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, (summary, name, fixed) in enumerate(every):
            record = {
                "id": f"ALSA-2026:{number}",
                "summary": summary,
                "affected": [
                    {
                        "package": {"ecosystem": "AlmaLinux:9", "name": name},
                        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
                    }
                ],
                "related": [f"CVE-2026-{number:04}"],
                "published": "2026-08-01T00:00:00Z",
                "modified": "2026-08-21T00:00:00Z",
            }
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    return file.getvalue()


MADE = errata(
    ("Important: openssl security update", "openssl-libs", "1:3.0.7-18.el9_2"),
    ("Moderate: openssl security update", "openssl-libs", "1:3.0.7-25.el9_3"),
    ("Moderate: nodejs:18 security update", "npm", "1:9.8-1.module_el9.2.0+1+aa"),
)


def test_a_rollback_of_an_alma_machine_is_refused_with_the_vulnerabilities_named(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, [("errata.zip", MADE)])
    node = rpm("npm", "1:9.1-1.module_el9.0.0+1+aa", "nodejs", "nodejs:18")
    old = inventory(rpm("openssl-libs", "1:3.0.1-23.el9_0", "openssl"), node, os=ALMA)
    newer = replace(node, version="1:9.9-1.module_el9.2.0+2+bb")
    patched = inventory(rpm("openssl-libs", "1:3.0.7-24.el9", "openssl"), newer, os=ALMA)
    assert check_rollback(fleet, old, patched) == {"CVE-2026-0000 in openssl", "CVE-2026-0002 in nodejs"}


def test_a_guest_that_lies_of_its_versions_is_neither_lifted_nor_taken_for_patched(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, [("errata.zip", MADE)])
    fleet.read(MACHINE, inventory(rpm("openssl-libs", "999:1-1.el9", "openssl"), os=ALMA), 1)
    assert fleet.floor() == {}
    fleet.read(MACHINE, inventory(rpm("openssl-libs", "1:3.0.7-25.el9_3", "openssl"), os=ALMA), 2)
    for number, version in enumerate(("999:1-1.el9", "1:999-1.fc39", "1:999-1.el8"), start=3):
        fleet.read(SNAPSHOT, inventory(rpm("openssl-libs", version, "openssl"), os=ALMA), number)
        assert rule(fleet.judged()[SNAPSHOT]).outcome is Outcome.UNKNOWN
        assert fleet.floor() == {"binary:openssl-libs": "1:3.0.7-25.el9_3"}
    fleet.read(SNAPSHOT, inventory(rpm("openssl-libs", "1:3.0.7-99.el9", "openssl"), os=ALMA), 9)
    assert rule(fleet.judged()[SNAPSHOT]).outcome is Outcome.PASS, "control: an update that nobody lists yet"


SECDB = """distroversion: v3.11
reponame: {}
packages:
  - pkg:
      name: {}
      secfixes:
        1.9-r0:
          - CVE-2020-0002
        1.10_rc1-r0:
          - CVE-2020-0003
        1.10-r1:
          - CVE-2020-0004
"""


def test_a_rollback_of_an_alpine_machine_is_refused_with_the_vulnerabilities_named(tmp_path: Path) -> None:
    feeds = [(f"{name}.yaml", SECDB.format(name, name[0]).encode()) for name in ("main", "community")]
    fleet = Fleet(tmp_path, feeds)
    old, patched = (inventory(apk("m-libs", version, "m"), os=ALPINE) for version in ("1.8-r9", "1.10-r0"))
    assert check_rollback(fleet, old, patched) == {"CVE-2020-0002 in m", "CVE-2020-0003 in m"}


@pytest.fixture
def shared_errata(shared_data: Path) -> bytes:
    path = shared_data / "advisories" / "osv-AlmaLinux-9.zip"
    if not path.is_file():
        pytest.skip(f"needs {path.name}, which only some checkouts have")
    return path.read_bytes()


@pytest.mark.soak
def test_a_real_alma_machine_that_goes_back_behind_its_updates_has_back_just_what_they_fixed(
    shared_data: Path, shared_errata: bytes, tmp_path: Path
) -> None:
    scanned = json.loads((shared_data / "machines" / "alma_9.json").read_text())
    sources = {name: one["name"] for one in scanned["SrcPackages"].values() for name in one["binaryNames"]}
    states = [
        inventory(
            *(
                rpm(one["name"], f"{one[version]}-{one[release]}", sources.get(one["name"], ""))
                for one in scanned["packages"].values()
            ),
            os=ALMA,
        )
        for version, release in (("version", "release"), ("newVersion", "newRelease"))
    ]
    assert len(check_rollback(Fleet(tmp_path, [("errata.zip", shared_errata)]), *states)) == 1000


def test_alpines_real_secdb_gives_a_floor_for_every_package(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "advisories" / "alpine-secdb-v3.11"
    if not folder.is_dir():
        pytest.skip(f"needs {folder.name}, which only some checkouts have")
    feeds = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    fleet = Fleet(tmp_path, feeds)
    scanned = json.loads((shared_data / "machines" / "alpine_319.json").read_text())["SrcPackages"].values()
    old, patched = (
        inventory(
            *(
                apk(name, version or one["version"], one["name"])
                for one in scanned
                for name in one["binaryNames"]
            ),
            os=ALPINE,
        )
        for version in ("0.1-r0", "")
    )
    assert len(check_rollback(fleet, old, patched)) > 20
