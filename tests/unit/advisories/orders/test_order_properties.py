"""Every version order: total, transitive, alike in Python and in SQLite, and as its manual says."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.advisories.orders.order import MAX_VERSION_CHARS, Order
from undercroft.advisories.orders.table import APK, ORDERS, PACMAN, PKG, RPM
from undercroft.errors import InputError

EVERY = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())

any_text = st.text(max_size=16) | st.text("0019aZz~^.+-_:r", max_size=16)

ASCENDING = {
    RPM: (
        "1.0~rc1-1 1.0 1.0-0 1.0-1.el9 1.0-1.el9_2 1.0-2.el9 1.0^git1-1 1.0a-1 1.0.1-1 1.00010-1 1.11 "
        "2:0.1-1 10:0.1-1"
    ),
    APK: (
        "0.9-r9 1.0_alpha-r0 1.0_alpha1 1.0_beta 1.0_pre 1.0_rc1 1.0 1.0-r0 1.0-r1 1.0~ab12-r0 1.0_cvs "
        "1.0_git20240101-r0 1.0_p1-r0 1.0_p1-r1 1.0a-r0 1.0b 1.0.0 1.00 1.01 1.1 1.9 1.10"
    ),
    PACMAN: (
        "1.0alpha-1 1.0rc1-1 1.0-1 1.0-2 1.0-2.1 1.0-10 1.0.a-1 1.0.1-1 1.0..1-1 1.1-1 1.1..1-1 1:0.1-1"
    ),
    PKG: (
        "1.* 1.pl 1.pl1 1.alpha1 1.beta1 1.pre1 1.rc 1.rc1 1.0.0.a 1+a+1 1 1_1 1_10 1+1 1.0.1 1a 1a1 1b 2.* "
        "2pl1 2alpha3 2.9f7 3.* 10.a 10 10a 10b 0,1 0_1,1 1,1 0,2"
    ),
}
EQUAL = {
    RPM: [("1.0-1", "0:1.0-1"), ("1.0-1", "1.00-01"), ("1.0-1", "1_0-1"), ("1.0-1", ":1.0-1")],
    APK: [("1.0-r1", "01.0-r01"), ("1.0_rc1", "1.0_rc01")],
    PKG: [
        *[("10", "10.0"), ("10", "10.0.0"), ("10..1", "10.1"), ("10a1b2", "10a1.b2"), ("10alpha", "10.a")],
        *[
            ("1.d2", "1.dev2"),
            ("1.d2", "1.Development2"),
            ("0.1beta2", "0.1.b2"),
            ("1,0", "1_0"),
            ("1+0", "1"),
        ],
        ("1.0:2003.09.16", "1.0.2003.09.16"),
    ],
    PACMAN: [("1.0-1", "0:1.0-1"), ("1.0-1", "01.00-1"), ("1.0-1", "1_0-1")],
}
MALFORMED = {
    RPM: ["", "1.0-1-1", "a:1.0", "1.0 1", "9999999999:1", "-1", "1.0-"],
    APK: ["", "a1", "1.0_foo", "1.0-1", "1.0-r", "1.0~xyz", "1..0", "1.0 ", "1.0aa"],
    PACMAN: ["", "1.0 1", "1.0-1-1", "x:1.0"],
    PKG: ["", "1.0-1", "1 1", "1_", "1,", "1_1,a", "1,1_1"],
}


def pairs_of(table):
    return [(order, value) for order, values in table.items() for value in values]


def named(value: object) -> str:
    return value.name if isinstance(value, Order) else str(value)


@EVERY
@given(a=any_text, b=any_text, c=any_text)
def test_an_order_is_total_and_transitive_whatever_the_text(order: Order, a: str, b: str, c: str) -> None:
    assert order.compare(a, b) == -order.compare(b, a)
    assert order.compare(a, a) == 0
    if order.compare(a, b) <= 0 and order.compare(b, c) <= 0:
        assert order.compare(a, c) <= 0


@EVERY
@given(texts=st.lists(any_text, min_size=2, max_size=6))
def test_sqlite_sorts_the_keys_as_python_does(order: Order, texts: list[str]) -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE version (key BLOB)")
        connection.executemany("INSERT INTO version VALUES (?)", [(order.key(text),) for text in texts])
        stored = [row[0] for row in connection.execute("SELECT key FROM version ORDER BY key")]
    connection.close()
    assert stored == sorted(order.key(text) for text in texts)


@EVERY
@given(text=any_text)
def test_a_check_accepts_or_raises_and_nothing_else(order: Order, text: str) -> None:
    try:
        order.check(text)
    except InputError:
        return
    assert text.isascii()


@pytest.mark.parametrize("order", ASCENDING, ids=lambda order: order.name)
def test_versions_ascend_as_the_manual_says(order: Order) -> None:
    versions = ASCENDING[order].split()
    for place, version in enumerate(versions):
        order.check(version)
        for later in versions[place + 1 :]:
            assert order.compare(version, later) == -1, (version, later)


@pytest.mark.parametrize(("order", "pair"), pairs_of(EQUAL), ids=named)
def test_two_ways_to_write_a_version_are_equal(order: Order, pair: tuple[str, str]) -> None:
    assert order.key(pair[0]) == order.key(pair[1])


@pytest.mark.parametrize(("order", "text"), pairs_of(MALFORMED), ids=named)
def test_what_is_no_version_is_refused(order: Order, text: str) -> None:
    with pytest.raises(InputError):
        order.check(text)


@EVERY
def test_a_version_of_a_megabyte_is_refused(order: Order) -> None:
    with pytest.raises(InputError, match=str(MAX_VERSION_CHARS)):
        order.check("1" * (1 << 20))
    assert order.compare("1" * 5000, "2" * 4999) == 1


def test_two_broken_versions_of_alpine_are_not_taken_for_equal() -> None:
    assert APK.compare("1.0_foo1-r0", "1.0_foo2-r0") == -1
    assert APK.compare("1.0_foo2-r0", "1.0-r0") == -1
