"""What a record does, whatever holds it: the fake, SQLite and PostgreSQL."""

from contextlib import suppress
from dataclasses import replace

import pytest
from recordvalues import (
    NOW,
    UUID,
    assessment,
    decision,
    domain,
    eid,
    event,
    execution,
    identity,
    inventory,
    judgement,
    later,
    reads,
    scan,
    subject,
    survey,
    uuid,
)

from undercroft.errors import NotFoundError, OperationError
from undercroft.model.credentials import Account, Credentials
from undercroft.model.execution import Origin, RecordedState, StateKind
from undercroft.model.fleet import Floor, FloorEntry, HeldTap, Hold, Intent
from undercroft.model.verdict import Action, Subject, SubjectKind, Verdict
from undercroft.ports.records import Records

HOSTILE = "vm\x00\x1b[2J\udcff\\x00é\u202e"
"""What no database takes as it is: NUL, a lone surrogate; and what looks like an escape of it."""


def test_a_survey_is_taken_over_and_a_machine_that_it_lacks_is_gone_since(records: Records):
    first, second = domain(1), domain(2)
    with records.transaction() as record:
        record.put_survey(survey(first, second))
        record.put_survey(survey(first, at=later(60)))
        (present,) = record.machines("host1")
        everything = record.machines(gone=True)
    assert (present.domain, present.first_seen, present.last_seen) == (first, NOW, later(60))
    assert [known.gone_at for known in everything] == [None, later(60)]
    assert everything[1].last_seen == NOW


def test_a_machine_that_comes_back_is_there_since_it_was_first_seen(records: Records):
    for number, domains in enumerate([(domain(1),), (), (domain(1),)]):
        with records.transaction() as record:
            record.put_survey(survey(*domains, at=later(number)))
    with records.reading() as record:
        (back,) = record.machines()
    assert (back.first_seen, back.last_seen, back.gone_at) == (NOW, later(2), None)


def test_a_machine_that_stays_away_is_gone_since_the_first_survey_without_it(records: Records):
    with records.transaction() as record:
        for number, domains in enumerate([(domain(1),), (), ()]):
            record.put_survey(survey(*domains, at=later(number)))
        assert record.machines(gone=True)[0].gone_at == later(1)


def test_one_hosts_survey_says_nothing_of_another_host(records: Records):
    with records.transaction() as record:
        record.put_survey(survey(domain(1), host="host1"))
        record.put_survey(survey(domain(2), host="host2"))
        assert [known.host for known in record.machines()] == ["host1", "host2"]
        assert [known.domain.uuid for known in record.machines("host2")] == [uuid(2)]


def test_machines_are_found_by_name_and_uuid_those_that_are_there_first(records: Records):
    with records.transaction() as record:
        record.put_survey(survey(domain(1, "web01"), host="old"))
        record.put_survey(survey(host="old", at=later(90)))
        record.put_survey(survey(domain(1, "web01"), host="new", at=later(30)))
        record.put_survey(survey(domain(2, "web01"), host="third", at=later(60)))
        assert [known.host for known in record.find_machines("web01")] == ["third", "new", "old"]
        assert [known.host for known in record.find_machines(uuid(1))] == ["new", "old"]
        assert record.find_machines("web02") == ()


def test_volumes_are_those_of_the_last_survey(records: Records):
    with records.transaction() as record:
        taken = survey()
        record.put_survey(taken)
        assert record.volumes("host1") == taken.volumes
        record.put_survey(replace(taken, volumes=()))
        assert record.volumes("host1") == record.volumes("elsewhere") == ()


def test_texts_that_a_guest_or_an_image_wrote_come_back_as_they_were(records: Records):
    subject = Subject(f"snapshot:{UUID}:{HOSTILE}", SubjectKind.SNAPSHOT, HOSTILE, "host1", UUID, HOSTILE)
    with records.transaction() as record:
        record.put_survey(survey(domain(1, HOSTILE)))
        record.put_subject(subject)
        record.put_scan(scan(subject.key))
        record.put_judgements([judgement(subject.key)])
        record.seen_fixes([(HOSTILE, HOSTILE, HOSTILE)], NOW)
        record.log("alarm", HOSTILE, {"text": HOSTILE}, NOW)
        record.take_event(event(name=HOSTILE, xml=HOSTILE))
    with records.reading() as record:
        assert record.find_machines(HOSTILE)[0].domain.name == HOSTILE
        assert record.subjects(UUID) == (subject,)
        assert list(record.scans(UUID)) == list(record.judgements()) == [subject.key]
        assert record.seen_fixes([(HOSTILE, HOSTILE, HOSTILE)], later(9)) == {(HOSTILE,) * 3: NOW}
        assert record.log_entries(subject=HOSTILE)[0].subject == HOSTILE


def test_keys_of_any_length_are_told_apart(records: Records):
    keys = [f"image:host1:/{'é' * 4000}{number}" for number in range(2)]
    with records.transaction() as record:
        for key in keys:
            record.put_subject(Subject(key, SubjectKind.IMAGE, key, "host1"))
            record.put_scan(scan(key, fingerprint=key[-1]))
    with records.reading() as record:
        assert {key: found.fingerprint for key, found in record.scans().items()} == {
            keys[0]: "0",
            keys[1]: "1",
        }
        assert record.scan(keys[1]) == scan(keys[1], fingerprint="1")


def test_dropped_subjects_go_with_their_scans_and_judgements_and_the_log_stays(records: Records):
    with records.transaction() as record:
        for key in ("machine:1", "machine:2"):
            record.put_subject(Subject(key, SubjectKind.MACHINE, key, "host1", key[-1]))
            record.put_scan(scan(key))
        record.put_judgements([judgement("machine:1"), judgement("machine:2")])
        record.drop_subjects(["machine:1", "machine:3"])
    with records.reading() as record:
        assert [subject.key for subject in record.subjects()] == ["machine:2"]
        assert list(record.scans()) == list(record.judgements()) == ["machine:2"]
        assert [entry.subject for entry in record.log_entries()] == ["machine:1", "machine:2"]


def test_scans_of_one_machine_are_those_of_its_subjects(records: Records):
    with records.transaction() as record:
        record.put_subject(Subject("machine:1", SubjectKind.MACHINE, "a", "host1", "1"))
        record.put_subject(Subject("snapshot:1:s", SubjectKind.SNAPSHOT, "a@s", "host1", "1", "s"))
        record.put_subject(Subject("machine:2", SubjectKind.MACHINE, "b", "host1", "2"))
        for subject in record.subjects():
            record.put_scan(scan(subject.key))
        assert sorted(record.scans("1")) == ["machine:1", "snapshot:1:s"]


def test_subjects_are_found_by_the_lineage_of_their_disks(records: Records):
    with records.transaction() as record:
        for number, lineage in enumerate(("one", "other", "one")):
            record.put_subject(subject(f"machine:{number}", machine=str(number)))
            record.put_scan(scan(f"machine:{number}", lineage=lineage))
        assert [known.key for known in record.subjects_of_lineage("one")] == ["machine:0", "machine:2"]
        record.put_scan(scan("machine:2", lineage="other"))
        assert [known.key for known in record.subjects_of_lineage("one")] == ["machine:0"]
        assert record.subject("machine:0") == subject("machine:0", machine="0")
        record.drop_subjects(["machine:0"])
        assert record.subjects_of_lineage("one") == ()
        assert record.subject("machine:0") is None


def test_an_inventory_is_kept_once_and_clones_share_its_software_digest(records: Records):
    original, clone = inventory(), inventory(hostname="web02", unowned_executables=3)
    with records.transaction() as record:
        digest, software = record.put_inventory(original, None)
        assert record.put_inventory(original, reads()) == (digest, software)
        other, same_software = record.put_inventory(clone, None)
        assert (other == digest, same_software == software) == (False, True)
        assert record.put_inventory(inventory(4), None)[1] != software
    with records.reading() as record:
        assert (record.inventory(digest), record.inventory(other)) == (original, clone)
        assert record.software(software) in {original, clone}
        assert record.software_of(other) == software
        assert (record.reads(digest), record.reads(other)) == (reads(), None)


def test_what_is_not_on_record_is_not_found(records: Records):
    with records.reading() as record:
        for ask in (record.inventory, record.software, record.software_of, record.credentials):
            with pytest.raises(NotFoundError):
                ask("0" * 64)
        assert (
            record.scan("x") is record.judgement("x") is record.decision("x") is record.execution("x") is None
        )
        assert record.assessment("x") is record.reads("x") is record.intent("x", "revert", NOW) is None


def test_credentials_are_kept_once(records: Records):
    held = Credentials(accounts=(Account("root", 0, "/bin/bash", "set", 20_000),))
    with records.transaction() as record:
        digest = record.put_credentials(held)
        assert record.put_credentials(held) == digest != record.put_credentials(Credentials())
    with records.reading() as record:
        assert record.credentials(digest) == held


def test_candidates_are_the_latest_different_answers_that_rest_on_a_file(records: Records):
    base = identity(20)
    with records.transaction() as record:
        digests = [record.put_inventory(inventory(count), reads(count))[0] for count in (1, 2, 3)]
        for number, digest in enumerate(digests):
            files = (identity(number), base)
            record.put_scan(scan(f"machine:{number}", digest, files=files, scanned_at=later(number)))
        record.put_scan(scan("machine:9", digests[0], files=(base,), scanned_at=later(9)))
        record.put_inventory(inventory(1), reads(9))
    with records.reading() as record:
        found = record.candidates(base, 10)
        assert found == (
            (digests[0], reads(9)),
            (digests[0], reads(1)),
            (digests[2], reads(3)),
            (digests[1], reads(2)),
        )
        assert record.candidates(base, 1) == found[:1]
        assert record.candidates(identity(1), 10) == ((digests[1], reads(2)),)


@pytest.mark.parametrize("field", ["device", "inode", "size_bytes", "modified_ns", "changed_ns"])
def test_a_file_that_differs_in_anything_is_another_and_its_path_is_no_difference(
    records: Records, field: str
):
    base = identity(2**64 - 1)
    with records.transaction() as record:
        digest, _ = record.put_inventory(inventory(), reads())
        record.put_scan(scan("machine:1", digest, files=(base,)))
        assert record.candidates(replace(base, path="/moved", proves=False), 9) == ((digest, reads()),)
        assert record.candidates(replace(base, **{field: getattr(base, field) - 1}), 9) == ()


def test_a_base_still_answers_when_the_machines_that_were_read_on_it_are_gone(records: Records):
    with records.transaction() as record:
        digest, _ = record.put_inventory(inventory(), reads())
        record.put_scan(scan("machine:1", digest))
        record.drop_subjects(["machine:1"])
        assert record.candidates(identity(), 1) == ((digest, reads()),)
        assert record.inventory(digest) == inventory()


def test_the_latest_assessment_takes_the_place_of_the_one_before(records: Records):
    with records.transaction() as record:
        record.put_assessment("s1", "monday", assessment(1))
        record.put_assessment("s2", "monday", assessment(2))
        record.put_assessment("s1", "tuesday", assessment(3))
    with records.reading() as record:
        assert record.assessments("monday") == {"s2": assessment(2)}
        assert record.assessments("tuesday") == {"s1": assessment(3)}
        assert record.assessment("s1") == record.assessment("s1", "tuesday") == assessment(3)
        assert record.assessment("s1", "monday") is None


def test_a_judgement_is_replaced_and_logged_only_where_verdict_or_action_changed(records: Records):
    steady = judgement()
    again = replace(steady, judged_at=later(60), policy="q" * 64)
    drifting = replace(again, verdict=Verdict.DRIFTING, judged_at=later(90), since=later(80))
    refused = replace(drifting, action=Action.REFUSE, judged_at=later(99))
    with records.transaction() as record:
        record.put_subject(subject())
    for value in (steady, again, drifting, refused):
        with records.transaction() as record:
            record.put_judgements([value])
    with records.reading() as record:
        entries = record.log_entries()
        assert record.judgement("machine:1") == record.judgements()["machine:1"] == refused
    assert [entry.kind for entry in entries] == ["verdict"] * 3
    assert [entry.at for entry in entries] == [NOW, later(90), later(99)]
    assert '"before":["steady","allow"]' in entries[1].body


def test_a_judgement_replaces_only_the_one_that_it_knew(records: Records):
    first, other, late = judgement(), judgement(at=later(60)), judgement(at=later(30))
    with records.transaction() as record:
        record.put_subject(subject())
        assert record.put_judgements([first], {}) == frozenset()
        assert record.put_judgements([other], {}) == {"machine:1"}
        assert record.put_judgements([other], {"machine:1": first}) == frozenset()
        assert record.put_judgements([late], {"machine:1": first}) == {"machine:1"}
        assert record.judgements() == {"machine:1": other}
        assert record.put_judgements([late], {"machine:1": other}) == frozenset()
        assert record.judgements() == {"machine:1": late}


def test_a_judgement_of_a_subject_that_is_gone_is_dropped(records: Records):
    with records.transaction() as record:
        record.put_subject(subject())
        record.drop_subjects(["machine:1"])
        record.put_judgements([judgement()])
        assert record.judgements() == {}
        assert record.log_entries() == ()


def test_one_machine_is_put_on_record_by_itself_and_taken_for_gone(records: Records):
    with records.transaction() as record:
        record.put_survey(survey(domain(1), domain(2)))
        record.put_domain("host1", uuid(1), domain(1, autostart=True), later(5))
        record.put_domain("host1", uuid(2), None, later(6))
        record.put_domain("host1", uuid(2), None, later(7))
        record.put_domain("host1", uuid(3), domain(3), later(8))
        record.put_domain("host1", uuid(4), None, later(9))
        found = {known.domain.uuid: known for known in record.machines(gone=True)}
        volumes = record.volumes("host1")
    assert sorted(found) == [uuid(1), uuid(2), uuid(3)]
    assert (found[uuid(1)].first_seen, found[uuid(1)].last_seen) == (NOW, later(5))
    assert found[uuid(1)].domain.autostart
    assert found[uuid(2)].gone_at == later(6)
    assert found[uuid(3)].first_seen == later(8)
    assert volumes


def test_a_decision_counts_once(records: Records):
    with records.transaction() as record:
        assert record.put_decision(decision())
        assert not record.put_decision(decision(reason="another"))
    with records.transaction() as record:
        assert not record.put_decision(decision())
        assert record.decision("d1") == decision()
        assert [entry.kind for entry in record.log_entries()] == ["decision"]


def test_decisions_come_latest_first_and_of_one_machine_where_asked(records: Records):
    with records.transaction() as record:
        for number in range(5):
            machine = uuid(number % 2)
            record.put_decision(decision(f"d{number}", at=later(number // 2), machine=machine))
        assert [value.ident for value in record.decisions(limit=3)] == ["d4", "d3", "d2"]
        assert [value.ident for value in record.decisions(uuid(0))] == ["d4", "d2", "d0"]


def test_a_hold_is_logged_when_it_begins_changes_and_ends(records: Records):
    held = Hold(UUID, eid(1), (HeldTap("vnet0", "virbr0"),), "to be confirmed", NOW, True)
    quarantined = replace(held, pending=False)
    with records.transaction() as record:
        record.drop_hold(UUID, "nothing to open", NOW)
        for value in (held, held, quarantined):
            record.put_hold(value)
        assert record.holds() == (quarantined,)
        record.drop_hold(UUID, "released", later(5))
        assert record.holds() == ()
        entries = record.log_entries()
    assert [entry.kind for entry in entries] == ["hold"] * 3
    assert '"held":false' in entries[2].body
    assert entries[2].at == later(5)


def test_a_floor_is_replaced_and_empty_where_there_is_none(records: Records):
    floor = Floor(UUID, (FloorEntry("debian:12", "openssl", "3.0.11-1", NOW),))
    with records.transaction() as record:
        assert record.floor(UUID) == Floor(UUID)
        record.put_floor(floor)
        assert record.floor(UUID) == floor
        assert record.floors() == {UUID: floor}


def test_an_intent_counts_in_its_time_and_until_it_is_ended(records: Records):
    first = Intent(UUID, "revert", "clean", "root", "tested", NOW, later(60), False)
    second = replace(first, state="other", at=later(10), overrides=True)
    with records.transaction() as record:
        record.put_intent(first)
        record.put_intent(second)
        assert record.intent(UUID, "revert", later(5)) == first
        assert record.intent(UUID, "revert", later(20)) == second
        assert record.intent(UUID, "revert", later(61)) is record.intent(UUID, "release", later(5)) is None
        assert record.intent(UUID, "revert", later(-1)) is None
        record.end_intent(UUID, "revert", later(20))
        for seconds in (5, 20, 30):  # also where the clock was set back
            assert record.intent(UUID, "revert", later(seconds)) is None
        assert [entry.kind for entry in record.log_entries()] == ["revert", "revert"]


def test_a_fix_is_seen_first_once(records: Records):
    known, new = ("debian:12", "openssl", "CVE-2026-1"), ("debian:12", "openssl", "CVE-2026-2")
    with records.transaction() as record:
        assert record.seen_fixes([known, known], NOW) == {known: NOW}
    with records.reading() as record:
        assert record.seen_fixes([known, new], later(60)) == {known: NOW, new: later(60)}
    with records.transaction() as record:
        assert record.seen_fixes(iter([known, new]), later(90)) == {known: NOW, new: later(90)}


def test_an_event_counts_once(records: Records):
    with records.transaction() as record:
        assert record.take_event(event())
        assert not record.take_event(event(operation="start"))
    with records.transaction() as record:
        assert not record.take_event(event())
        assert record.take_event(event("e2"))


def test_an_execution_is_logged_when_it_begins_ends_and_is_concluded_anew(records: Records):
    begun = execution()
    ended = replace(begun, ended_at=later(60), ending="stopped")
    concluded = replace(ended, origin=Origin.CLONE, parent=eid(9))
    for value in (begun, begun, ended, concluded):
        with records.transaction() as record:
            record.put_execution(value)
    with records.reading() as record:
        assert record.execution(begun.eid) == concluded
        assert [entry.kind for entry in record.log_entries()] == ["execution", "ending", "execution"]
        assert '"changed":{"origin":"clone"' in record.log_entries()[2].body


def test_an_execution_that_is_known_only_by_its_end_has_both_entries(records: Records):
    with records.transaction() as record:
        record.put_execution(execution(ended_at=later(5), ending="lost"))
        assert [entry.kind for entry in record.log_entries()] == ["execution", "ending"]


def test_a_machines_executions_come_with_their_ancestors_and_descendants(records: Records):
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 3, 6: 2}
    machines = {1: uuid(1), 2: uuid(1), 3: uuid(2), 4: uuid(2), 5: uuid(3), 6: uuid(4)}
    with records.transaction() as record:
        for number, parent in parents.items():
            known = execution(number, machines[number], parent=eid(parent) if parent else "")
            record.put_execution(known)
        record.put_execution(execution(7, uuid(9), parent=eid(99)))
        found = {
            name: [int(value.eid, 16) for value in record.executions(name)] for name in machines.values()
        }
        assert found[uuid(1)] == [1, 2, 3, 4, 5, 6]
        assert found[uuid(2)] == [1, 2, 3, 4, 5]
        assert found[uuid(3)] == [1, 2, 3, 5]
        assert [int(value.eid, 16) for value in record.executions()] == [1, 2, 3, 4, 5, 6, 7]
        assert [value.eid for value in record.executions(uuid(9))] == [eid(7)]


def test_executions_that_name_each_other_as_parents_come_to_an_end(records: Records):
    with records.transaction() as record:
        record.put_execution(execution(1, parent=eid(2)))
        record.put_execution(execution(2, parent=eid(1)))
        assert len(record.executions(UUID)) == 2


def test_own_executions_are_those_of_one_machine_and_the_latest_of_them(records: Records):
    with records.transaction() as record:
        for number in (3, 1, 2):
            record.put_execution(execution(number))
    with records.reading() as record:
        every = record.own_executions(execution(1).machine)
        assert every == (execution(1), execution(2), execution(3))
        assert record.own_executions(execution(1).machine, 2) == every[1:]
        assert record.own_executions("nobody") == ()


def test_live_executions_are_those_without_an_end(records: Records):
    with records.transaction() as record:
        record.put_execution(execution(1, ended_at=later(9), ending="stopped"))
        record.put_execution(execution(2))
        assert record.live_executions() == (execution(2),)


def test_states_are_found_by_machine_and_by_what_they_look_like(records: Records):
    first = RecordedState("end:1", StateKind.END, UUID, "", eid(1), NOW, "f1", "s1")
    second = RecordedState("snapshot:1", StateKind.SNAPSHOT, uuid(2), "clean", "", later(5), "f1")
    with records.transaction() as record:
        record.put_state(second)
        record.put_state(first)
        assert record.states() == (first, second)
        assert record.states(UUID) == (first,)
        assert record.states_like(fingerprint="f1") == (second, first)
        assert record.state(first.key) == first
        assert record.state("end:none") is None
        assert record.states_like(sample="s1") == record.states_like(sample="s1", fingerprint="x") == (first,)
        assert record.states_like() == record.states_like(fingerprint="f2") == ()
        record.put_state(replace(first, gone_at=later(9)))
        assert record.states(UUID)[0].gone_at == later(9)


def test_an_exception_in_the_block_leaves_nothing_on_record(records: Records):
    with records.transaction() as record:
        record.log("agent", "host1", {}, NOW)
    with suppress(ZeroDivisionError), records.transaction() as record:
        record.put_decision(decision())
        record.put_inventory(inventory(), reads())
        raise ZeroDivisionError
    with records.transaction() as record:
        assert record.decision("d1") is None
        assert record.log_head()[1] == 1
        assert record.put_decision(decision())


def test_a_reading_sees_one_moment_and_writes_nothing(records: Records):
    with records.reading() as record:
        assert record.decisions() == ()
        with records.transaction() as other:
            other.put_decision(decision())
        assert record.decisions() == ()
        assert record.log_head()[1] == 0
        with pytest.raises(OperationError):
            record.put_decision(decision("d2"))
    with records.reading() as record:
        assert record.decisions() == (decision(),)


def test_the_log_is_numbered_without_gaps_and_told_by_subject(records: Records):
    with records.transaction() as record:
        name, number, digest = record.log_head()
        assert (len(name), number, digest) == (32, 0, "0" * 64)
        entries = [
            record.log("agent", f"host{count % 2}", {"count": count}, later(count)) for count in range(5)
        ]
        assert record.log_entries() == tuple(entries)
    with records.reading() as record:
        assert record.log_entries() == tuple(entries)
        assert record.log_entries(after=1, limit=2) == tuple(entries[1:3])
        assert record.log_entries(after=1, limit=2, last=True) == tuple(entries[3:])
        assert record.log_entries(limit=1, subject="host1", last=True) == (entries[3],)
        assert record.log_entries(after=4, limit=9, last=True) == (entries[4],)
        assert record.log_entries(subject="host1") == tuple(entries[1::2])
        assert record.log_head() == (name, 5, entries[-1].digest)
