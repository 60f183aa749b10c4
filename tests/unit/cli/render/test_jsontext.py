"""Our layout of JSON holds exactly what the standard library's would."""

import json

from hypothesis import given
from hypothesis import strategies as st

from undercroft.cli.render.jsontext import dump

simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    simple | st.lists(simple),
    lambda inner: st.dictionaries(st.text(), inner) | st.lists(st.dictionaries(st.text(), inner)),
)


@given(st.dictionaries(st.text(), values))
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
