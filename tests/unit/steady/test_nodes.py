"""YAML as nodes with places: bounded, without what a policy does not need."""

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.steady import nodes
from undercroft.steady.nodes import Mapping, Scalar, Sequence, UnreadableError, read

BOMB = b"a: &a [x, x]\n" + b"".join(
    b"%c: &%c [*%c, *%c, *%c, *%c]\n" % (n, n, n - 1, n - 1, n - 1, n - 1) for n in range(ord("b"), ord("z"))
)


def refusal(data: bytes) -> str:
    with pytest.raises(UnreadableError) as raised:
        read("policy.yaml", data)
    return str(raised.value)


def test_nodes_know_where_they_stand() -> None:
    root = read("a.yaml", b"# comment\nrules:\n  - name: [web, 'db']\n")
    assert isinstance(root, Mapping)
    ((key, rules),) = root.pairs
    assert (str(key.place), str(rules.place)) == ("a.yaml:2:1", "a.yaml:3:3")
    assert isinstance(rules, Sequence)
    assert isinstance(rules.items[0], Mapping)
    ((_, names),) = rules.items[0].pairs
    assert isinstance(names, Sequence)
    assert names.items[1] == Scalar(nodes.Place("a.yaml", 3, 17), "db")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# only words\n", b"---\n", b"null", b"\xef\xbb\xbf"])
def test_nothing_is_nothing(data: bytes) -> None:
    assert read("a.yaml", data) is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: !!python/object/apply:os.system ['id']", "policy.yaml:1:4: found the tag"),
        (b"a: !!str 1", "found the tag 'tag:yaml.org,2002:str'"),
        (b"a: &x 1", "policy.yaml:1:4: found an anchor or alias"),
        (b"a: *x", "found an anchor or alias"),
        (b"<<: *x", "found an anchor or alias"),
        (BOMB, "policy.yaml:1:4: found an anchor or alias"),
        (b"a: 1\n---\nb: 2\n", "policy.yaml:2:1: found a second document"),
        (b"a: [1, 2", "no YAML: "),
        (b"a: 'x", "no YAML: "),
        (b"a: b: c", "policy.yaml:1:5: no YAML: mapping values are not allowed"),
        (b"a:\n\t- b", "policy.yaml:2:1: no YAML: "),
        (b"a: 1\nb: \xff", "policy.yaml:2:4: byte 0xff, which is no UTF-8"),
        ("a: 1\nb: x\u202ey".encode(), "policy.yaml:2:5: the invisible character U+202E"),
        (b"a: \x00", "policy.yaml:1:4: the invisible character U+0000"),
        (b"[" * 500_000, "nested deeper than 32"),
        (b"{a: " * 100_000, "nested deeper than 32"),
        (b"- " * 100 + b"x", "nested deeper than 32"),
        (b"- x\n" * 100_001, "more than 100,000 values"),
        (b"#" * (nodes.MAX_BYTES + 1), "1,048,577 bytes; at most 1,048,576 are possible"),
    ],
)
def test_what_no_policy_needs_is_refused_with_its_place(data: bytes, said: str) -> None:
    assert said in refusal(data)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text("a:-[]{}&*!|>'\"#%@` \n\t,?0~", max_size=60).map(str.encode))
def test_any_bytes_are_nodes_or_refused(data: bytes) -> None:
    problem = ""
    try:
        read("a.yaml", data)
    except UnreadableError as error:
        problem = str(error)
    assert not problem or problem.startswith("a.yaml:")


@pytest.mark.parametrize(
    "data", [b"[" * nodes.MAX_BYTES, b"- x\n" * 200_000, b"a: |\n" + b" x\n" * 300_000, BOMB * 1000]
)
def test_the_largest_file_takes_little_memory(data: bytes) -> None:
    tracemalloc.start()
    with contextlib.suppress(UnreadableError):
        read("a.yaml", data[: nodes.MAX_BYTES])
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 96 << 20
