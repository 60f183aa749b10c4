"""The check at the sandbox's border: what a child may answer, and what it may not."""

import json
from dataclasses import dataclass
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import InputError
from undercroft.model.disk import Coverage, DiskFormat, ImageInfo, Snapshot, Volume, VolumeStatus
from undercroft.model.inventory import Boot, Inventory, Kernel, OsRelease, Package
from undercroft.model.schema import MAX_ITEMS, MAX_TEXT_CHARS, decode, decode_list, encode

INFO = ImageInfo(DiskFormat.QCOW2, 1 << 30, 65536, 3, (Snapshot("1", "clean", 1_700_000_000, 0, 1 << 30),))
texts = st.text(max_size=20) | st.just("na\udcffme")
packages = st.builds(Package, *[texts] * 6, status=texts, origin=texts)
volumes = st.builds(
    Volume, texts, st.integers(0, 128), st.integers(0, 1 << 60), st.integers(0, 1 << 60), texts, texts, texts,
    texts, st.sampled_from(VolumeStatus), st.lists(texts, max_size=3).map(tuple), texts,
)  # fmt: skip
inventories = st.builds(
    Inventory,
    os=st.none() | st.builds(OsRelease, *[texts] * 5),
    hostname=texts,
    packages=st.lists(packages, max_size=4).map(tuple),
    kernels=st.lists(st.builds(Kernel, texts, texts, texts), max_size=2).map(tuple),
    boot=st.builds(Boot, texts, texts, texts, texts),
    unowned_executables=st.integers(0, 9),
    unowned_examples=st.lists(texts, max_size=3).map(tuple),
    coverage=st.builds(Coverage, st.lists(volumes, max_size=3).map(tuple)),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class Dated:
    on: date | None
    score: float


@given(inventories)
def test_every_inventory_survives_the_way_through_json(inventory: Inventory) -> None:
    assert decode(Inventory, json.loads(json.dumps(encode(inventory)))) == inventory


@given(json_values)
def test_whatever_a_child_answers_is_an_inventory_or_an_input_error(value: object) -> None:
    with pytest.raises(InputError):
        decode(Inventory, value)


@given(st.data(), inventories)
def test_one_wrong_field_is_refused_and_named(data: st.DataObject, inventory: Inventory) -> None:
    value = json.loads(json.dumps(encode(inventory)))
    field = data.draw(st.sampled_from(["hostname", "packages", "boot", "unowned_executables", "coverage"]))
    value[field] = data.draw(st.sampled_from([None, True, 1.5, [1], {"x": 1}]))
    with pytest.raises(InputError, match=field):
        decode(Inventory, value)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "bochs"},
        {"size_bytes": 1 << 70},
        {"size_bytes": True},
        {"size_bytes": "12"},
        {"backing_name": "x" * (MAX_TEXT_CHARS + 1)},
        {"features": ["a"] * (MAX_ITEMS + 1)},
        {"surplus": 1},
    ],
)
def test_values_beyond_the_declared_types_and_limits_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        decode(ImageInfo, {**encode(INFO), **change})  # type: ignore[dict-item] # a dataclass encodes to a dict


def test_a_missing_field_is_refused() -> None:
    value = encode(INFO)
    assert isinstance(value, dict)
    del value["snapshots"]
    with pytest.raises(InputError, match="fields of ImageInfo"):
        decode(ImageInfo, value)


def test_dates_and_finite_numbers_are_checked() -> None:
    assert decode(Dated, {"on": "2025-02-13", "score": 1}) == Dated(date(2025, 2, 13), 1.0)
    for wrong in ({"on": "13.2.2025", "score": 1}, {"on": None, "score": float("nan")}):
        with pytest.raises(InputError):
            decode(Dated, wrong)


def test_a_list_of_values_is_decoded_in_order() -> None:
    snapshots = (Snapshot("1", "a", 1, 0, 5), Snapshot("2", "b", 2, 9, 5))
    assert decode_list(Snapshot, encode(snapshots)) == snapshots
    with pytest.raises(InputError, match="expected a list"):
        decode_list(Snapshot, {"0": {}})
