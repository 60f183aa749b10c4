"""Judging a few subjects, by what the record holds of them alone, says what judging everything says."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from memoryrecords import MemoryRecords
from recordvalues import NOW, domain, identity, inventory, later, reads, scan, subject, survey, uuid

from undercroft.model.fleet import Floor, FloorEntry, Hold
from undercroft.model.verdict import Judgement, SubjectKind, Verdict
from undercroft.steady.policy import Policy
from undercroft.usecases.fleet.verdicts import judging
from undercroft.usecases.fleet.verdicts.advising import Advisor
from undercroft.usecases.fleet.verdicts.judging import Judging
from undercroft.usecases.fleet.verdicts.policyfile import PolicyKeeper

POLICY = "version: 1\ndefaults: {drifting: quarantine, unknown: refuse}\n"


def fleet() -> tuple[MemoryRecords, list[str]]:
    """Return a record of four machines that differ, a snapshot, an image, and a machine that is gone."""
    records = MemoryRecords(lambda: NOW)
    keys = [f"machine:{uuid(number)}" for number in range(5)]
    with records.transaction() as record:
        record.put_survey(survey(*(domain(number) for number in range(5))))
        record.put_survey(survey(*(domain(number, genid=bool(number % 2)) for number in range(4))))
        for number, key in enumerate(keys):
            record.put_subject(subject(key, machine=uuid(number)))
        held = replace(
            subject(f"snapshot:{uuid(1)}:s", machine=uuid(1)), kind=SubjectKind.SNAPSHOT, state="s"
        )
        record.put_subject(held)
        record.put_subject(replace(subject("image:host1:/a"), kind=SubjectKind.IMAGE, machine=""))
        for number, key in enumerate((*keys[1:], held.key)):
            digest, software = record.put_inventory(inventory(number % 2), reads(number))
            record.put_scan(scan(key, digest, software=software, files=(identity(number),)))
        record.put_hold(Hold(uuid(2), "", (), "r", NOW, pending=False))
        record.put_floor(Floor(uuid(3), (FloorEntry("debian:12", "source", "9:9", NOW),)))
        return records, [known.key for known in record.subjects()]


def judge(records: MemoryRecords, policy: Policy, only: tuple[str, ...] = ()) -> Mapping[str, Judgement]:
    with Advisor("/nowhere/advisories.db").advice(NOW) as advised:
        return Judging(records, lambda: NOW).everything(policy, advised, only)


def test_few_are_judged_as_all_are(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy = PolicyKeeper(tmp_path / "policy.yaml", NOW.date).policy
    records, keys = fleet()
    everything = judge(records, policy)
    assert sorted(everything) == sorted(keys)
    assert len({replace(one, subject="") for one in everything.values()}) > 2  # they do differ
    for key in keys:
        again, _ = fleet()
        assert judge(again, policy, (key,)) == {key: everything[key]}


def test_many_keys_are_taken_from_a_look_at_all_and_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy = PolicyKeeper(tmp_path / "policy.yaml", NOW.date).policy
    records, keys = fleet()
    unknown = tuple(f"machine:{number}" for number in range(judging._ONE_BY_ONE))
    assert judge(records, policy, (*keys[:3], *unknown)) == {
        key: found for key, found in judge(fleet()[0], policy).items() if key in keys[:3]
    }


def test_a_subject_that_somebody_else_judged_meanwhile_is_judged_once_more(tmp_path: Path) -> None:
    policy = PolicyKeeper(tmp_path / "policy.yaml", NOW.date).policy
    records, keys = fleet()
    key = f"machine:{uuid(1)}"
    assert key in keys
    before = judge(records, policy, (key,))[key]
    gone = replace(before, judged_at=later(90))  # later than the clock of the round, and still not what is so

    class Overtaken(MemoryRecords):
        """A record in which another judgement comes first, once."""

        @contextmanager
        def transaction(self) -> Iterator[Any]:
            with records.transaction() as record:
                if not changes:
                    changes.append(record.put_judgements([gone]))
                yield record

        def reading(self) -> Any:
            return records.reading()

    changes: list[frozenset[str]] = []
    with records.transaction() as record:
        record.put_hold(Hold(key.removeprefix("machine:"), "", (), "r", NOW, pending=False))
    judge(Overtaken(lambda: NOW), policy, (key,))
    with records.reading() as record:
        assert record.judgements()[key].verdict is Verdict.QUARANTINED
