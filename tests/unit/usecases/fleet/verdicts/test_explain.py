"""A judgement by the name of what it is about, from a real record."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleetdata import fill
from program import run_program

from undercroft.errors import InputError, NotFoundError
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.verdicts.explain import explain


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fleet") / "fleet.db"
    records = open_records(str(path))
    fill(records)
    records.close()
    return path


@pytest.fixture
def records(database: Path) -> Iterator[Records]:
    opened = open_records(str(database))
    yield opened
    opened.close()


def test_everything_that_was_judged_is_found_by_its_name_and_by_its_key(records: Records) -> None:
    with records.reading() as record:
        judged = record.judgements()
        subjects = [subject for subject in record.subjects() if subject.key in judged]
        names = [subject.name for subject in subjects]
        assert {subject.kind for subject in subjects} >= {SubjectKind.MACHINE, SubjectKind.SNAPSHOT}
        for subject in subjects:
            assert explain(record, subject.key).judgement == judged[subject.key]
            if names.count(subject.name) == 1:
                assert explain(record, subject.name).subject == subject


def test_a_uuid_names_the_current_state_and_with_a_state_that_one(records: Records) -> None:
    with records.reading() as record:
        judged = record.judgements()
        snapshot = next(
            one for one in record.subjects() if one.kind is SubjectKind.SNAPSHOT and one.key in judged
        )
        assert explain(record, f"{snapshot.machine}@{snapshot.state}").subject == snapshot
        assert explain(record, snapshot.machine).subject.state == "current"


def test_what_is_not_there_is_told_with_what_is(records: Records) -> None:
    with records.reading() as record:
        snapshot = next(one for one in record.subjects() if one.kind is SubjectKind.SNAPSHOT)
        with pytest.raises(NotFoundError, match=r"no state 'nosuch' on record .* there are: .*current"):
            explain(record, f"{snapshot.machine}@nosuch")
        with pytest.raises(NotFoundError, match="no machine on record"):
            explain(record, "nosuch")


def test_what_was_not_judged_is_not_found(database: Path, tmp_path: Path) -> None:
    (tmp_path / "fleet.db").write_bytes(database.read_bytes())
    records = open_records(str(tmp_path / "fleet.db"))
    with records.transaction() as record:
        machine = next(one for one in record.subjects() if one.kind is SubjectKind.MACHINE)
        record.drop_subjects([machine.key])
        record.put_subject(machine)
    with records.reading() as record, pytest.raises(NotFoundError, match="not judged yet"):
        explain(record, machine.key)
    with records.transaction() as record:
        for key in ("image:host1:/a", "image:host2:/a"):
            host = key.split(":")[1]
            record.put_subject(type(machine)(key, SubjectKind.IMAGE, "/a", host))
    with records.reading() as record, pytest.raises(InputError, match="2 things have this name"):
        explain(record, "/a")
    records.close()


def test_the_program_explains_from_the_record(database: Path, tmp_path: Path, records: Records) -> None:
    with records.reading() as record:
        drifting = next(
            one
            for one in record.subjects()
            if (said := record.judgement(one.key)) and said.verdict is Verdict.DRIFTING and said.results
        )
    done = run_program(tmp_path / "a.db", "policy", "explain", drifting.key, "--record", database)
    assert (done.returncode, done.stderr) == (0, "")
    assert "drifting since" in done.stdout
    done = run_program(
        tmp_path / "a.db", "policy", "explain", drifting.key, "--record", database, "-f", "json"
    )
    assert '"schema": "undercroft/judgement/1"' in done.stdout
    missing = run_program(tmp_path / "a.db", "policy", "explain", "nosuch", "--record", database)
    assert missing.returncode == 3


def test_the_program_checks_a_policy_and_tells_every_mistake(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("version: 1\n")
    bad.write_text("version: 1\nrulse: []\ndefaults: {drifting: no}\n")
    done = run_program(tmp_path / "a.db", "policy", "check", good)
    assert (done.returncode, done.stderr, done.stdout[:3]) == (0, "", "ok:")
    done = run_program(tmp_path / "a.db", "policy", "check", bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [f"{bad}:2:1", f"{bad}:3:22"]
    assert run_program(tmp_path / "a.db", "policy", "check", tmp_path / "none").returncode == 3
