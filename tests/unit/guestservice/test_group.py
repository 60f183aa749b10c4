"""The committing thread: a group that is taken at once, and one that fails in a way nobody foresaw."""

import select
import threading

from tests.fakes.memorylog import MemoryLog
from tests.fakes.memorytpm import MemoryTpm

from undercroft.errors import OperationError
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


def test_who_waits_for_no_anchor_is_told_while_the_tpm_still_writes() -> None:
    class Slow(MemoryTpm):
        may_write = threading.Event()

        def extend(self, head: bytes) -> bytes:
            self.may_write.wait(60)
            return super().extend(head)

    tpm, told = Slow(), []
    committer = Committer(MemoryLog(), tpm)
    committer.submit(Work([b"record"], None, [], anchor=True, before=UNEXTENDED))
    assert select.select([committer], [], [], 60)[0]
    committer.hear(lambda _: told.append("durable"), lambda _: told.append("done"))
    assert (told, committer.runs) == (["durable"], True)
    tpm.may_write.set()
    while "done" not in told:
        select.select([committer], [], [], 60)
        committer.hear(
            lambda _: told.append("durable"), lambda work: told.append("done" if work.held else "?")
        )
    assert (told, committer.runs) == (["durable", "done"], False)
    committer.close()


def test_a_group_that_is_not_durable_is_not_told_to_be() -> None:
    class Failing(MemoryLog):
        def sync(self) -> bytes:
            raise OperationError("the disk failed")

    told: list[str] = []
    committer = Committer(Failing(), MemoryTpm())
    committer.submit(Work([b"record"], None, [], anchor=True, before=UNEXTENDED))
    while not told:
        select.select([committer], [], [], 60)
        committer.hear(lambda _: told.append("durable"), lambda work: told.append(work.error))
    assert told == ["the disk failed"]
    committer.close()
