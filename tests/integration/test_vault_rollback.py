"""A real guest service, killed at its writes, and each earlier image of its disk under a later TPM.

A crash is continued by a start. An earlier image is refused, or nothing that was told before is contradicted:
no value comes again, nothing that was spent for good is granted again. The trace of each run is held against
the invariants of the models, too.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.servicekills import CALLS, END, SERVE, START, Kill, Lives, Told
from tests.support.softwaretpm import SoftwareTpm

from undercroft.adapters.tracefile import read_traces
from undercroft.assurance.tracecheck import check

SOME = (
    Kill(SERVE, "write", 5),  # the anchor of a final spend is in the TPM, and nobody was told
    Kill(START, "pwrite64", 2),  # the counter is incremented, and the log has the intent alone
    Kill(SERVE, "sendto", 6),  # a value is durable, and its guest was not told
    Kill(START, "pwrite64", 3),  # the index is extended, and the log does not say so
    Kill(END, "write", 3),  # the log has the end of the epoch, and the TPM does not
)


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    made = SoftwareTpm(tmp_path / "tpm")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def lives(tmp_path: Path, chip: SoftwareTpm) -> Iterator[Lives]:
    made = Lives(tmp_path / "host", chip)
    yield made
    made.close()


def put_each_back(lives: Lives, following: int = 0) -> tuple[int, int]:
    """Put each image back under the last TPM, and the `following` ones; how many were taken, and refused."""
    taken = refused = 0
    moments = lives.moments
    for at, moment in enumerate(moments):
        for after in {
            id(each): each for each in (*moments[at + 1 : at + 1 + following], moments[-1])
        }.values():
            lives.put_back(moment.image, after)
            if lives.begins(after.told):
                taken += 1
            else:
                refused += 1
    return taken, refused


def test_a_killed_service_goes_on_and_its_earlier_disks_are_refused_or_safe(lives: Lives) -> None:
    for kill in SOME:
        assert lives.live(kill), kill
    taken, refused = put_each_back(lives)
    assert taken >= 1
    assert refused == len(SOME) - 1
    assert len(lives.told.final) >= 3


def test_without_a_tpm_an_earlier_disk_repeats_a_value_and_grants_what_was_spent(tmp_path: Path) -> None:
    """The control: what the checks above would find."""
    lives = Lives(tmp_path / "host", None)
    try:
        assert not lives.live(Kill(SERVE, "fdatasync", 1_000))
        image = lives.image("earlier")
        assert not lives.live(Kill(SERVE, "fdatasync", 1_000))
        told = lives.told
        lives.put_back(image, None)
        with pytest.raises(AssertionError, match="spent again"):
            lives.begins(told)
        lives.end()
        lives.put_back(image, None)
        with pytest.raises(AssertionError, match="came again"):
            lives.begins(Told(told.values, set(), told.execution))
        lives.end()
        broken = check(read_traces([lives.service.trace]))
        assert {each.invariant for each in broken} == {"NoSilentRollback", "NoOutputBeforeReseed"}
    finally:
        lives.close()


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_every_write_of_every_stretch_of_a_life_is_such_a_kill(lives: Lives) -> None:
    for stretch, call in itertools.product((START, SERVE, END), CALLS):
        for at in itertools.count(1):
            if not lives.live(Kill(stretch, call, at)):
                break
    lives.note(Kill(END, "exit", 1))
    assert len(lives.moments) > 60
    taken, refused = put_each_back(lives, following=1)
    assert taken > 10
    assert refused > len(lives.moments)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("call", CALLS)
def test_a_first_start_killed_at_any_write_is_continued(tmp_path: Path, call: str) -> None:
    for at in itertools.count(1):
        chip = SoftwareTpm(tmp_path / f"tpm-{at}")
        chip.start()
        lives = Lives(tmp_path / f"host-{at}", chip)
        try:
            killed = lives.live(Kill(START, call, at))
            assert lives.begins(lives.told)
        finally:
            lives.close()
            chip.stop()
        if not killed:
            break
