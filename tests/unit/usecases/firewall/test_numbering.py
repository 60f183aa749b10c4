"""Class numbers keep their labels while any packet may bear them, and a file keeps them over a restart."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from firewallworld import ruleset
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import OperationError, StateError
from undercroft.firewall.classes import Classes
from undercroft.firewall.kernel import Chain, Ruleset, SetDefinition, Table
from undercroft.firewall.marks import data, of_class
from undercroft.usecases.firewall import memory
from undercroft.usecases.firewall.numbering import (
    KEPT_RETIRED,
    RETIRED_FOR,
    Memory,
    Numbering,
    distrusted,
    matched,
    noted,
    numbered,
    settled,
    without_table,
)

START = datetime(2026, 11, 25, tzinfo=UTC)
WEB, DB, SICK = frozenset({"web"}), frozenset({"db"}), frozenset({"quarantine"})

label_sets = st.frozensets(st.text(max_size=5), max_size=3)
histories = st.lists(st.lists(label_sets, max_size=4), min_size=1, max_size=6)


def after(found: Memory, *labels: frozenset[str], at: datetime = START, policy: str = "p") -> Memory:
    wanted = numbered(found, policy, labels, at)
    return settled(wanted, wanted.numberings[-1], at)


def numbers(found: Memory) -> dict[frozenset[str], int]:
    return dict(found.numberings[-1].classes.numbers)


def test_labels_keep_their_number_while_they_are_used_and_get_it_again() -> None:
    first = after(Memory(), WEB, DB)
    second = after(first, DB, SICK)
    assert numbers(second)[DB] == numbers(first)[DB]
    assert numbers(second)[SICK] not in numbers(first).values()
    assert numbers(after(second, WEB))[WEB] == numbers(first)[WEB]


def test_a_number_is_given_to_nobody_while_a_packet_may_bear_it() -> None:
    found = after(Memory(), WEB)
    given_out = {WEB: numbers(found)[WEB]}
    for step in range(KEPT_RETIRED + 50):
        labels = frozenset({f"label{step}"})
        found = after(found, labels, at=START + timedelta(seconds=step))
        assert numbers(found)[labels] not in given_out.values()
        given_out[labels] = numbers(found)[labels]
    later = START + RETIRED_FOR + timedelta(seconds=KEPT_RETIRED + 50)
    found = after(after(found, DB, at=later), SICK, at=later)
    assert numbers(found)[SICK] in given_out.values()
    assert len(found.retired) <= KEPT_RETIRED + 2


@given(histories)
def test_whoever_is_killed_between_file_and_kernel_leaves_a_file_that_fits_to_both(
    history: list[list[frozenset[str]]],
) -> None:
    found = Memory()
    table = Table("undercroft", (), ())
    for labels in history:
        wanted = numbered(found, "p", labels, START)
        for numbering in wanted.numberings:
            kept = matched(wanted, noted(table, numbering), START)
            assert kept is not None
            assert kept.numberings == (numbering,)
            assert set(kept.numbers().items()) <= set(wanted.numbers().items())
            assert numbers(after(kept, *labels)) == dict(wanted.numberings[-1].classes.numbers)
        assert len(set(wanted.numbers().values())) == len(wanted.numbers())
        found = settled(wanted, wanted.numberings[-1], START)


def test_a_table_that_says_nothing_or_something_else_fits_to_no_memory() -> None:
    found = after(Memory(), WEB, DB)
    other = Numbering("p", Classes({WEB: 1, DB: 2}))
    table = Table("undercroft", (), ())
    twice = noted(noted(table, found.numberings[0]), found.numberings[0])
    for held in (
        table,
        noted(table, other),
        twice,
        noted(table, Numbering("q", found.numberings[0].classes)),
    ):
        assert matched(found, held, START) is None


def test_numbers_of_a_table_that_nobody_knows_are_given_to_nobody() -> None:
    held = ruleset()
    used = {int.from_bytes(mark, "little") & 0x7FFF for mark in held.elements["classes"].values()}  # type: ignore[arg-type]
    found = after(distrusted(after(Memory(), WEB, DB, SICK), held, START), WEB, DB)
    assert not used & set(numbers(found).values())


def test_numbers_are_found_wherever_a_table_names_them() -> None:
    held = Ruleset(
        Table(
            "undercroft",
            (SetDefinition("logged-7", ("mark",)), SetDefinition("marks", ("ifname",), "mark")),
            (
                Chain("near-9", ()),
                Chain("to-world", ()),
                Chain("to-99999999999999999999", ()),
                Chain("to-²", ()),
            ),
        ),
        {
            "to-x": {data(of_class(11)) + bytes(8): None},
            "marks": {bytes(16): data(of_class(12)), b"x" * 16: b"\1\2"},
        },
    )
    assert set(distrusted(Memory(), held, START).numbers().values()) == {7, 9, 11, 12}


def test_without_a_table_labels_have_their_numbers_again() -> None:
    found = after(Memory(), WEB, DB)
    assert numbers(after(without_table(found, START), DB, WEB)) == numbers(found)


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    assert memory.load(path) == Memory()
    wanted = numbered(
        after(after(Memory(), WEB, frozenset()), DB, frozenset({"ü\udcff"})), "q", [SICK], START
    )
    memory.store(path, wanted)
    assert memory.load(path) == wanted
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["numbers"]


def test_a_link_in_the_place_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "numbers.part").symlink_to(victim)
    with pytest.raises(OperationError, match="numbers"):
        memory.store(tmp_path / "numbers", Memory())
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"version": 2, "numberings": [], "retired": []}',
        '{"version": 1, "numberings": [], "retired": 7}',
        '{"version": 1, "numberings": [{"policy": "p", "classes": [[0, []]]}], "retired": []}',
        '{"version": 1, "numberings": [{"policy": "p", "classes": [[true, []]]}], "retired": []}',
        '{"version": 1, "numberings": [{"policy": "p", "classes": [[1, "web"]]}], "retired": []}',
        '{"version": 1, "numberings": [{"policy": "p", "classes": [[1, []], [1, ["a"]]]}], "retired": []}',
        '{"version": 1, "numberings": [{"policy": "p", "classes": [[1, []]]}, '
        '{"policy": "p", "classes": [[2, []]]}], "retired": []}',
        '{"version": 1, "numberings": [], "retired": [[1, [], "2026-11-25T00:00:00"]]}',
        '{"version": 1, "numberings": [{"policy": "p", "classes": [[1, []]]}], '
        '"retired": [[1, [], "2026-11-25T00:00:00+00:00"]]}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_memory_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "numbers"
    path.write_text(text)
    with pytest.raises(StateError, match=f"{path}: not a memory of the firewall's class numbers"):
        memory.load(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_memory_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, untrusted: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-numbers"
    path.write_bytes(untrusted)
    with pytest.raises(StateError):
        memory.load(path)


def test_a_memory_that_cannot_be_read_or_written_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="nowhere/numbers"):
        memory.store(tmp_path / "nowhere" / "numbers", Memory())
    with pytest.raises(OperationError, match=str(tmp_path)):
        memory.load(tmp_path)
