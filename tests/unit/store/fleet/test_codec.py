from recordvalues import scan

from undercroft.model.fleet import Scan
from undercroft.store.fleet.codec import Remembered


def test_the_least_recently_used_value_is_forgotten_first():
    remembered = Remembered(limit_chars=30)
    for digest in "abc":
        remembered.put(Scan, digest, scan(digest), 10)
    assert remembered.get(Scan, "a") == scan("a")
    remembered.put(Scan, "d", scan("d"), 10)
    assert [digest for digest in "abcd" if remembered.get(Scan, digest)] == ["a", "c", "d"]


def test_a_value_larger_than_all_together_is_not_remembered():
    remembered = Remembered(limit_chars=30)
    remembered.put(Scan, "a", scan("a"), 10)
    remembered.put(Scan, "b", scan("b"), 31)
    assert remembered.get(Scan, "b") is None
    assert remembered.get(Scan, "a") is not None


def test_values_of_different_kinds_are_told_apart_though_their_digests_are_equal():
    remembered = Remembered()
    remembered.put(Scan, "a", scan("a"), 10)
    assert remembered.get(str, "a") is None
