"""The whole matrix of docs/ENTROPY.md: kernels with and without a driver of vmgenid, and every way back."""

from collections.abc import Iterator

import pytest
import resumelab
from resumematrix import LOOPED, Beneath, Matrix, Row, Way

pytestmark = [
    pytest.mark.skipif(bool(resumelab.missing()), reason=resumelab.missing()),
    pytest.mark.timeout(3000),
    pytest.mark.xdist_group("resumes"),
    pytest.mark.soak,
]
FROM_RAM = [way for way in Way if way is not Way.BACKUP]
SAFE = ("getrandom", "uuid", "tls", "tls_aware", "hwrng", "signer_aware")
"""Kinds of draws that the layer makes fresh: from the kernel, or of programs that look at the generation."""

Rows = dict[tuple[Way, Beneath], Row]


@pytest.fixture(scope="module", params=list(resumelab.KERNELS))
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    with resumelab.lab(request.param) as lab:
        yield {(row.way, row.beneath): row for row in Matrix(lab, request.param).rows()}


@pytest.mark.parametrize("way", FROM_RAM)
def test_after_a_quiesce_no_way_back_draws_anything_again(rows, way):
    row = rows[way, Beneath.QUIESCED]
    assert row.looped == 0, "of a tight loop, from its first draw after the resume"
    assert {kind: row.drawn[kind] for kind in SAFE} == dict.fromkeys(SAFE, 0)


@pytest.mark.parametrize("way", FROM_RAM)
def test_after_an_exposed_snapshot_nothing_repeats_once_the_seed_is_confirmed(rows, way):
    row = rows[way, Beneath.EXPOSED]
    assert {kind: row.drawn[kind] for kind in SAFE} == dict.fromkeys(SAFE, 0)


@pytest.mark.parametrize("way", FROM_RAM)
def test_without_the_layer_a_kernel_repeats_unless_a_driver_is_told_of_the_resume(rows, way):
    row = rows[way, Beneath.NOTHING]
    told = row.kernel == "generic" and way is not Way.MONITOR
    assert (row.looped < LOOPED) if told else (row.looped == LOOPED)
    assert row.drawn["signer"] == row.drawn["signer_aware"] == 1, "what a process keeps, no driver mends"
    assert row.drawn["tls_old"] > 0
    assert row.drawn["hwrng"] > 0, "nor does it empty the virtual generator"


def test_a_backup_repeats_what_lies_on_the_disk_unless_its_program_looks_at_the_generation(rows):
    bare, layered = rows[Way.BACKUP, Beneath.NOTHING], rows[Way.BACKUP, Beneath.QUIESCED]
    for row in (bare, layered):
        assert row.looped == 0, "a kernel that boots gathers anew"
        assert {kind: row.drawn[kind] for kind in SAFE} == dict.fromkeys(SAFE, 0)
    assert bare.drawn["disk"] == bare.drawn["disk_aware"] == layered.drawn["disk"] == 1
    assert layered.drawn["disk_aware"] == 0
