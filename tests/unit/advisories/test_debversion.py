"""Debian's version order against dpkg itself, against published vectors, and as a total order."""

import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.advisories.debversion import MAX_VERSION_CHARS, check, compare, key
from undercroft.errors import InputError

PAIRS = 6000
PAIRS_WITH_DPKG = 700

_PERL_ORACLE = """
use Dpkg::Version;
while (my $line = <STDIN>) {
    chomp $line;
    my ($a, $b) = split /\\|/, $line;
    print Dpkg::Version->new($a) <=> Dpkg::Version->new($b), "\\n";
}
"""
_DPKG_ORACLE = """
while IFS='|' read -r a b; do
    if dpkg --compare-versions "$a" lt "$b"; then echo -1
    elif dpkg --compare-versions "$a" eq "$b"; then echo 0
    else echo 1; fi
done
"""

upstream = st.from_regex(r"[0-9][A-Za-z0-9.+~]{0,12}", fullmatch=True)
revision = st.from_regex(r"(-[A-Za-z0-9.+~]{1,8})?", fullmatch=True)
epoch = st.sampled_from(["", "0:", "1:", "2:"])
versions = st.builds("{}{}{}".format, epoch, upstream, revision)
any_text = st.text(max_size=24)


def random_part(source: random.Random, alphabet: str) -> str:
    return "".join(source.choice(alphabet) for _ in range(source.randint(1, 6)))


def random_version(source: random.Random) -> str:
    version = source.choice("0123") + random_part(source, "0019aZz~~.+")
    if source.random() < 0.1:
        version += "-" + random_part(source, "01a")
    if source.random() < 0.7:
        version += "-" + random_part(source, "0019aZz~.+")
    if source.random() < 0.3:
        version = source.choice("01") + ":" + version
    return version


def related(source: random.Random, version: str) -> str:
    """Return a version that differs from `version` where the rules are subtle, or not at all."""
    return source.choice(
        [
            version + "0",
            version + "~",
            version + "a",
            version + "+b1",
            "0:" + version if ":" not in version else version,
            version + "-0" if "-" not in version else version,
            version.replace("1", "01"),
            version.replace("~", "", 1).rstrip("-"),
            random_version(source),
        ]
    )


def random_pairs(count: int) -> list[tuple[str, str]]:
    source = random.Random(20240715)
    firsts = [random_version(source) for _ in range(count)]
    return [(first, related(source, first)) for first in firsts]


def shuffled(items: Sequence[str]) -> list[str]:
    return random.Random(1).sample(items, len(items))


def ask(oracle: list[str], pairs: list[tuple[str, str]]) -> list[int]:
    lines = "".join(f"{a}|{b}\n" for a, b in pairs)
    answer = subprocess.run(oracle, input=lines, capture_output=True, text=True, check=True)
    return [int(line) for line in answer.stdout.split()]


@pytest.mark.skipif(not shutil.which("dpkg"), reason="needs dpkg as the oracle")
def test_dpkg_itself_gives_the_same_order_for_hundreds_of_pairs() -> None:
    pairs = random_pairs(PAIRS_WITH_DPKG)
    answers = ask(["sh", "-c", _DPKG_ORACLE], pairs)
    assert set(answers) == {-1, 0, 1}
    assert [compare(a, b) for a, b in pairs] == answers


@pytest.mark.skipif(
    not shutil.which("perl")
    or subprocess.run(["perl", "-MDpkg::Version", "-e", "1"], check=False).returncode != 0,
    reason="needs Dpkg::Version (package libdpkg-perl) as the oracle",
)
def test_the_perl_library_of_dpkg_gives_the_same_order_for_thousands_of_pairs() -> None:
    pairs = random_pairs(PAIRS)
    answers = ask(["perl", "-e", _PERL_ORACLE], pairs)
    assert len(answers) == PAIRS
    wrong = [(pair, answer) for pair, answer in zip(pairs, answers, strict=True) if compare(*pair) != answer]
    assert wrong == []


def test_published_vectors_are_sorted_as_expected(shared_data: Path) -> None:
    vectors = json.loads((shared_data / "versions" / "deb.json").read_text())
    assert len(vectors) >= 16
    for vector in vectors:
        listed = vector["input"]["versions"]
        if vector["test_type"] == "equality":
            assert (compare(*listed) == 0) is vector["expected_output"]
        else:
            assert sorted(listed, key=key) == vector["expected_output"]


@pytest.mark.parametrize(
    "ascending",
    [
        ("1.0~~", "1.0~rc1", "1.0", "1.0a", "1.0+deb12u1", "1.0.1"),
        ("9.9", "10.0", "1:0.1"),
        ("1.0-1~bpo12+1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-2"),
        ("1.0-1ubuntu0.1~esm1", "1.0-1ubuntu0.1", "1.0-1ubuntu0.1+esm1", "1.0-1ubuntu0.2"),
        ("1-1-1", "1-1-2", "1-2-1"),
    ],
)
def test_versions_ascend(ascending: tuple[str, ...]) -> None:
    assert sorted(shuffled(ascending), key=key) == list(ascending)


@pytest.mark.parametrize(
    ("a", "b"),
    [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.0-1", "1.0-01"), ("1.", "1.0"), ("1.0-", "1.0"), (" 1 ", "1")],
)
def test_different_spellings_of_one_version_are_equal(a: str, b: str) -> None:
    assert compare(a, b) == 0
    assert key(a) == key(b)


def test_numbers_of_any_length_compare_by_value() -> None:
    lengths = [1, 254, 255, 256, 509, 510, 511, 20_000]
    ascending = ["1" * length for length in lengths] + ["2" * 20_000]
    assert sorted(shuffled(ascending), key=key) == ascending


@given(any_text, any_text)
def test_the_order_is_total_and_antisymmetric_for_any_text(a: str, b: str) -> None:
    assert compare(a, b) == -compare(b, a)
    assert (compare(a, b) == 0) == (key(a) == key(b))


@given(st.lists(versions, min_size=3, max_size=3))
def test_the_order_is_transitive(three: list[str]) -> None:
    low, middle, high = sorted(three, key=key)
    assert compare(low, middle) <= 0
    assert compare(middle, high) <= 0
    assert compare(low, high) <= 0


@given(versions)
def test_a_tilde_comes_before_and_anything_else_after_the_version(version: str) -> None:
    assert compare(version + "~", version) == -1
    assert compare(version + "a", version) == 1
    assert compare(version + "+", version) == 1


@given(st.text(alphabet="\udc80\udcff1.a~", max_size=8), versions)
def test_undecodable_bytes_have_a_place_too(text: str, version: str) -> None:
    assert compare(text, version) == -compare(version, text)


@given(versions)
def test_check_passes_what_the_policy_allows(version: str) -> None:
    check(version)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1.0-",
        "a1",
        "1 0",
        "1.0\n",
        "x:1",
        ":1",
        "1:",
        "2147483648:1",
        "1_0",
        "1.0-1_0",
        "\u0661",
        "1.0\udc80",
        "1" * (MAX_VERSION_CHARS + 1),
    ],
)
def test_check_refuses_what_is_no_version(text: str) -> None:
    with pytest.raises(InputError):
        check(text)


@given(any_text)
def test_check_raises_input_errors_only(text: str) -> None:
    try:
        check(text)
    except InputError:
        return
    assert text[0].isdigit()
