"""FreeBSD's order against its rules, written a second time as a comparison of two, over random pairs.

`pkg` does not run here. Its own vectors and the examples in its documentation are in `test_order_properties`.
"""

import re
from itertools import zip_longest
from random import Random

import pytest

from undercroft.advisories.orders.table import PKG

PAIRS = 6000
_STAGES = {"pl": 0, "alpha": 1, "beta": 2, "pre": 16, "rc": 18}
_PIECES = [
    "0",
    "1",
    "9",
    "10",
    "01",
    "a",
    "b",
    "B",
    "pl",
    "alpha",
    "beta",
    "rc",
    "dev",
    ".",
    ".",
    ":",
    "+",
    "*",
]

Component = tuple[int, int, int]


def components(text: str) -> list[Component]:
    """Return (number, letter, patch level) of each; -1 stands for a missing number or level, -2 for `*`."""
    found: list[Component] = []
    while text:
        if text[0] == "*":
            return [*found, (-2, 0, 0)]
        number, word, rest = re.match(r"([0-9]*)([A-Za-z]*)(.*)", text).groups()  # type: ignore[union-attr]
        stage = word.lower() in _STAGES and len(word) > 1
        if number and stage:
            found.append((int(number), 0, 0))
            text = word + rest
            continue
        level, rest = re.match(r"([0-9]*)(.*)", rest).groups()  # type: ignore[union-attr]
        if not word:
            level, rest = "0", level + rest
        letter = _STAGES[word.lower()] if stage else ord(word[0].lower()) - 96 if word else 0
        found.append((int(number or -1), letter, int(level or -1)))
        text = re.sub(r"^[^0-9A-Za-z*]+", "", rest)
    return found


def compared(a: str, b: str) -> int:
    """Compare versions without revision and epoch."""
    for one, other in zip_longest(a.split("+"), b.split("+"), fillvalue=""):
        for left, right in zip_longest(components(one), components(other), fillvalue=(0, 0, 0)):
            if left != right:
                return -1 if left < right else 1
    return 0


def version(source: Random) -> str:
    return "".join(source.choice(_PIECES) for _ in range(source.randint(1, 6)))


def test_the_order_is_that_of_its_rules_over_random_pairs() -> None:
    source = Random(20261127)
    for _ in range(PAIRS):
        first = version(source)
        second = source.choice(
            [first + source.choice(_PIECES), version(source), "0." + first, first + ".0.0"]
        )
        assert PKG.compare(first, second) == compared(first, second), (first, second)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1", "2"),
        ("2", "1,1"),
        ("1.pl1", "1.alpha1"),
        ("1.alpha1", "1.beta1"),
        ("1.beta1", "1.pre1"),
        ("1.pre1", "1.rc1"),
        ("1.rc1", "1"),
        ("5", "5.20_3"),
        ("1.0.1:2003.09.16", "1.0:2003.09.16"),
        ("a", "0"),
        ("1_2", "1_10"),
        ("9_9,1", "0,2"),
        ("1,2_3", "1,3_3"),
    ],
)
def test_pkgs_own_vectors(lower: str, higher: str) -> None:
    assert (PKG.compare(lower, higher), PKG.compare(higher, lower)) == (-1, 1)
