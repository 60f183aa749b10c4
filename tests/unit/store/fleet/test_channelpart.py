"""What is on record beneath the guest, whatever holds it: the fake, SQLite and PostgreSQL."""

from dataclasses import replace

from recordvalues import NOW, later, uuid

from undercroft.assurance.auditheads import verify_log
from undercroft.model.channel import GuestChannel, Heard, Quiesced, Reseed
from undercroft.ports.records import Records

HOSTILE = "x\x00\x1b[2J\udcff\\x00é\u202e"
EID, OTHER = f"{1:032x}", f"{2:032x}"
RESEED = Reseed(EID, uuid(1), (3 << 40) + 1, True, 64, 2, 1, 57, NOW)
CHANNEL = GuestChannel(uuid(1), "host1", EID, Heard.READY, NOW, HOSTILE, HOSTILE, (HOSTILE, "freeze"))
QUIESCED = Quiesced(f"snapshot:{uuid(1)}:{HOSTILE}:7", uuid(1), EID, 12, NOW)


def test_of_each_execution_the_last_confirmation_counts_and_each_is_in_the_log(records: Records):
    again = replace(RESEED, generation=RESEED.generation + 1, at=later(1))
    with records.transaction() as record:
        record.put_reseed(RESEED)
        record.put_reseed(RESEED)
        record.put_reseed(again)
    with records.reading() as record:
        assert record.reseed(EID) == again
        assert record.reseed(OTHER) is None
        assert record.reseeds([OTHER, EID]) == {EID: again}
        assert record.reseeds([]) == {}
        entries = record.log_entries()
        assert [(entry.kind, entry.subject) for entry in entries] == [("reseed", uuid(1))] * 2
        verify_log(entries, (), "")


def test_what_a_guest_says_of_itself_comes_back_as_it_was_and_is_not_logged(records: Records):
    other = GuestChannel(uuid(2), "host2", OTHER, Heard.UNREACHABLE, NOW, problem="nobody listens")
    with records.transaction() as record:
        record.put_channels([CHANNEL, other])
        record.put_channels([replace(CHANNEL, heard=Heard.SILENT)])
        record.put_channels([])
    with records.reading() as record:
        assert record.channels() == {uuid(1): replace(CHANNEL, heard=Heard.SILENT), uuid(2): other}
        assert list(record.channels([uuid(2), uuid(3)])) == [uuid(2)]
        assert record.log_entries() == ()


def test_a_quiesced_snapshot_is_known_by_the_key_of_its_state(records: Records):
    other = replace(QUIESCED, key="snapshot:other:s:7", machine=uuid(2))
    with records.transaction() as record:
        record.put_quiesced(QUIESCED)
        record.put_quiesced(QUIESCED)
        record.put_quiesced(other)
    with records.reading() as record:
        assert record.quiesced(uuid(1)) == {QUIESCED.key: QUIESCED}
        assert record.quiesced() == {QUIESCED.key: QUIESCED, other.key: other}
        assert [entry.kind for entry in record.log_entries()] == ["quiesced"] * 2
