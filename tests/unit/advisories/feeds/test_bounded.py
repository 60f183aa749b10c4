import io

import pytest

from undercroft.advisories.feeds import bounded
from undercroft.advisories.feeds.bounded import json_members, load_json, read_all
from undercroft.errors import InputError


def test_what_is_larger_than_its_limit_is_refused():
    assert read_all(io.BytesIO(b"12345"), 5, "file") == b"12345"
    with pytest.raises(InputError, match="larger than the limit of 4 bytes"):
        read_all(io.BytesIO(b"12345"), 4, "file")


def test_members_of_an_object_come_one_by_one():
    text = b' {"a" : 1 , "b": [true, null], "c": {"d": "\\u00e9"}} \n'
    assert dict(json_members(text, "doc")) == load_json(text, "doc")
    assert list(json_members(b"{}", "doc")) == list(json_members(b" { } ", "doc")) == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,',
        b'{"a":1,}',
        b'{"a":1}x',
        b'{"a":01}',
        b"{,}",
        b'{"a" 1}',
    ],
)
def test_a_malformed_object_is_refused_as_the_standard_parser_refuses_it(text):
    with pytest.raises(InputError):
        list(json_members(text, "doc"))
    with pytest.raises(InputError):
        load_json(text, "doc")


@pytest.mark.parametrize("bomb", [b"[" * 500_000, b'{"a":' * 200_000, b'{"a":' + b"[" * 200_000])
def test_deep_nesting_is_refused(bomb):
    with pytest.raises(InputError, match="nested too deeply"):
        load_json(bomb, "doc")


def test_too_many_values_are_refused_before_they_take_memory(monkeypatch):
    monkeypatch.setattr(bounded, "MAX_JSON_VALUES", 1000)
    with pytest.raises(InputError, match="more than 1000 values"):
        load_json(b"[" + b"[]," * 1000 + b"[]]", "doc")


def test_a_byte_order_mark_is_no_reason_to_refuse():
    assert load_json(b'\xef\xbb\xbf{"a": 1}', "doc") == {"a": 1}
