"""Our layout of JSON holds exactly what the standard library's would."""

import json

from hypothesis import given
from hypothesis import strategies as st

from undercroft.cli.render.jsontext import dump

names = st.text(max_size=5)
simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names
values = st.recursive(
    simple | st.lists(simple, max_size=3),
    lambda inner: (
        st.dictionaries(names, inner, max_size=3)
        | st.lists(st.dictionaries(names, inner, max_size=3), max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=4))
def test_it_reads_back_as_the_same_values(document) -> None:
    assert json.loads(dump(document)) == document


def test_simple_objects_take_one_line_each() -> None:
    document = {"name": "x", "items": [{"a": 1, "b": ["c"]}, {"a": 2, "b": []}], "none": []}
    assert dump(document).splitlines() == [
        "{",
        '  "name": "x",',
        '  "items": [',
        '    {"a": 1, "b": ["c"]},',
        '    {"a": 2, "b": []}',
        "  ],",
        '  "none": []',
        "}",
    ]
