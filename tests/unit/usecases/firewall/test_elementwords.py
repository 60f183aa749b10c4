"""Elements of the filter's sets in words."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.firewall import marks
from undercroft.firewall.elements import device, key_of
from undercroft.usecases.firewall.elementwords import element_words

CLASS4 = marks.data(marks.of_class(4))
MAC = bytes.fromhex("525400000001")


@pytest.mark.parametrize(
    ("set_name", "key", "words"),
    [
        ("to-2", key_of(CLASS4, b"\x06", b"\x00\x16"), "class 4 tcp port 22"),
        ("back-world", key_of(marks.data(marks.WORLD), b"\x11", b"\x00\x35"), "world udp port 53"),
        ("ping-host", marks.data(marks.HOST), "host"),
        ("classes", device("vnet1"), "vnet1"),
        (
            "sources4",
            key_of(device("vnet1"), MAC, ip_address("10.0.0.1").packed),
            "vnet1 52:54:00:00:00:01 10.0.0.1",
        ),
        ("near6", key_of(device("vnet1"), ip_address("2001:db8::1").packed), "vnet1 2001:db8::1"),
        ("outside4", ip_address("10.0.0.1").packed, "10.0.0.1"),
        ("asked", MAC, "52:54:00:00:00:01"),
        ("somebody-elses", b"\x01\x02", "0102"),
        ("to-2", b"\x01\x02", "0102"),
    ],
)
def test_each_field_is_a_word(set_name: str, key: bytes, words: str) -> None:
    assert element_words(set_name, key) == words


@given(st.sampled_from(["to-1", "classes", "sources6", "flows4", "pieces6", "x"]), st.binary(max_size=64))
def test_any_key_is_told_without_an_error(set_name: str, key: bytes) -> None:
    assert isinstance(element_words(set_name, key), str)
