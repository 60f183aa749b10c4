"""Ranges laid over runs, against a dictionary of blocks."""

from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.ext4.changes import Run, replace_range

RANGES = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(1, 20), st.one_of(st.none(), st.just(0), st.integers(1000, 2000))
    ),
    max_size=25,
)


@given(RANGES)
def test_runs_map_each_block_as_the_last_range_over_it_says(
    ranges: list[tuple[int, int, int | None]],
) -> None:
    runs: list[Run] = []
    expected: dict[int, int] = {}
    for logical, length, physical in ranges:
        replace_range(runs, logical, length, physical)
        for step in range(length):
            expected.pop(logical + step, None)
            if physical is not None:
                expected[logical + step] = physical and physical + step
    found = {
        logical + step: physical and physical + step
        for logical, length, physical in runs
        for step in range(length)
    }
    assert found == expected
    assert sum(length for _, length, _ in runs) == len(found)
    assert runs == sorted(runs)
