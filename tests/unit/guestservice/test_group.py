"""The committing thread: a group that is taken at once, and one that fails in a way nobody foresaw."""

from tests.fakes.memorylog import MemoryLog

from undercroft.guestservice.group import Committer
from undercroft.ports.tpm import UNEXTENDED
from undercroft.vault.work import Work


def test_a_group_can_be_taken_without_waiting_for_its_signal() -> None:
    committer = Committer(MemoryLog(), None)
    for number in range(3_000):
        committer.submit(Work([b"record %d" % number], None, [], anchor=False, before=UNEXTENDED))
        assert not committer.take().error
    committer.close()


def test_a_log_that_fails_in_an_unknown_way_fails_its_group() -> None:
    class Broken(MemoryLog):
        def sync(self) -> bytes:
            raise ZeroDivisionError

    committer = Committer(Broken(), None)
    committer.submit(Work([b"record"], None, [], anchor=False, before=UNEXTENDED))
    assert "ZeroDivisionError" in committer.take().error
    committer.close()
