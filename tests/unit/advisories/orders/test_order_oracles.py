"""Version orders against the managers' own programs and published vectors, over thousands of random pairs."""

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from undercroft.advisories.orders.table import APK, PACMAN, RPM

PAIRS = 4000
BATCH = 500

_VERCMP = 'while IFS="|" read -r a b; do vercmp "$a" "$b"; done'
_SUFFIXES = ("alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p")


def text(source: random.Random, alphabet: str, most: int = 8) -> str:
    return "".join(source.choice(alphabet) for _ in range(source.randint(1, most)))


def rpm_pairs() -> list[tuple[str, str]]:
    source = random.Random(20261126)
    pairs = []
    for _ in range(PAIRS):
        first = text(source, "0019aZ..~^-+_")
        if source.random() < 0.3:
            first = f"{source.choice('012')}:{first}"
        second = source.choice(
            [
                first + "0",
                first + "~",
                first + "a",
                first + "-1",
                first.replace("1", "01"),
                first.replace(".", "", 1) or "0",
                first if ":" in first else f"0:{first}",
                text(source, "0019aZ..~^-+_"),
            ]
        )
        pairs.append((first, second))
    return pairs


def pacman_pairs() -> list[tuple[str, str]]:
    """Return pairs within what vercmp orders transitively: a release, no separator before it or doubled."""
    source = random.Random(20261127)
    pairs = []
    for _ in range(PAIRS // 4):
        first = (
            re.sub(r"([^A-Za-z0-9])[^A-Za-z0-9]+", r"\1", text(source, "0019abZ..+_")).rstrip(".+_") or "1"
        )
        if source.random() < 0.2:
            first = f"{source.choice('01')}:{first}"
        change = source.choice(["a", ".1", ".a", "0", "+1"])
        second = source.choice([first + change, first.replace("1", "01", 1), first.replace(".", "_")])
        pairs.append((f"{first}-1", f"{second}-{source.choice(['1', '2', '1.1'])}"))
    return pairs


def apk_version(source: random.Random) -> str:
    version = ".".join(source.choice(["0", "1", "01", "010", "9", "10"]) for _ in range(source.randint(1, 3)))
    version += source.choice(["", "", "a", "b"])
    for _ in range(source.choice([0, 0, 1, 2])):
        version += f"_{source.choice(_SUFFIXES)}{source.choice(['', '1', '2', '10'])}"
    return version + source.choice(["", "", "~ab", "~b0"]) + source.choice(["", "-r0", "-r1", "-r10"])


_KINDS = (
    ("number", r"\.([0-9]+)"),
    ("letter", r"([a-z])"),
    ("suffix", r"_([a-z]+)"),
    ("suffix number", r"([0-9]+)"),
    ("hash", r"~([0-9a-f]+)"),
    ("revision", r"-r([0-9]+)"),
    ("end", r"()$"),
)


def apk_tokens(version: str) -> list[tuple[str, str]]:
    first = re.match("[0-9]+", version)
    tokens, rest = [("first", first[0])], version[first.end() :]
    while tokens[-1][0] != "end":
        kinds = [kind for kind in _KINDS if kind[0] != "suffix number" or tokens[-1][0] == "suffix"]
        kind, match = next((kind, found) for kind, form in kinds if (found := re.match(form, rest)))
        tokens.append((kind, match[1]))
        rest = rest[match.end() :]
    return tokens


def apk_compare(a: str, b: str) -> int:
    """Compare token by token, as apk-tools 3 describes its own order; written for this test."""
    kinds = [name for name, _ in _KINDS]
    for (kind, value), (other_kind, other) in zip(apk_tokens(a), apk_tokens(b), strict=False):
        if kind != other_kind:
            if kind == "suffix" and _SUFFIXES.index(value) < 4:
                return -1
            if other_kind == "suffix" and _SUFFIXES.index(other) < 4:
                return 1
            return -1 if kinds.index(kind) > kinds.index(other_kind) else 1
        if kind == "suffix":
            left, right = _SUFFIXES.index(value), _SUFFIXES.index(other)
        elif kind in {"letter", "hash"} or (kind == "number" and "0" in (value[0], other[0])):
            left, right = value, other
        else:
            left, right = int(value or 0), int(other or 0)
        if left != right:
            return -1 if left < right else 1
    return 0


@pytest.mark.skipif(not shutil.which("rpm"), reason="needs rpm as the oracle")
def test_rpm_itself_gives_the_same_order_for_thousands_of_pairs() -> None:
    pairs = rpm_pairs()
    answers: list[str] = []
    for start in range(0, PAIRS, BATCH):
        calls = " ".join(f"print(rpm.vercmp('{a}', '{b}'))" for a, b in pairs[start : start + BATCH])
        answer = subprocess.run(
            ["rpm", "--eval", f"%{{lua: {calls}}}"], capture_output=True, text=True, check=True
        )
        answers += re.findall("-1|0|1", answer.stdout)
    assert len(answers) == PAIRS
    assert set(answers) == {"-1", "0", "1"}
    wrong = [
        (pair, found) for pair, found in zip(pairs, answers, strict=True) if RPM.compare(*pair) != int(found)
    ]
    assert wrong == []


@pytest.mark.skipif(not shutil.which("vercmp"), reason="needs pacman's vercmp as the oracle")
def test_vercmp_itself_gives_the_same_order_for_a_thousand_pairs() -> None:
    pairs = pacman_pairs()
    lines = "".join(f"{a}|{b}\n" for a, b in pairs)
    answer = subprocess.run(["sh", "-c", _VERCMP], input=lines, capture_output=True, text=True, check=True)
    found = [int(line) for line in answer.stdout.split()]
    assert set(found) == {-1, 0, 1}
    assert [PACMAN.compare(*pair) for pair in pairs] == found


def test_a_comparison_token_by_token_gives_alpines_order_for_thousands_of_pairs() -> None:
    source = random.Random(20261128)
    pairs = [(apk_version(source), apk_version(source)) for _ in range(PAIRS)]
    for version, _ in pairs[: PAIRS // 2]:
        bare = re.sub("(~[ab0]+)?(-r[0-9]+)?$", "", version)
        pairs.append((version, bare + source.choice(["", "-r1", "_p", "_rc1", "~ab", "_git2-r0"])))
    wrong = [pair for pair in pairs if APK.compare(*pair) != apk_compare(*pair)]
    assert wrong == []


def test_alpines_published_vectors_are_sorted_as_expected(shared_data: Path) -> None:
    vectors = json.loads((shared_data / "versions" / "alpine.json").read_text())
    assert len(vectors) >= 700
    for vector in vectors:
        listed = vector["input"]["versions"]
        if vector["test_type"] == "equality":
            assert (APK.compare(*listed) == 0) is vector["expected_output"], listed
        else:
            assert sorted(listed, key=APK.key) == vector["expected_output"], listed


def test_rpms_own_vectors_hold(shared_data: Path) -> None:
    suite = (shared_data / "versions" / "rpmvercmp.at").read_text()
    vectors = re.findall(r"^RPMVERCMP\(([^,]*), ([^,]*), (-?\d)\)", suite, re.MULTILINE)
    assert len(vectors) > 80
    assert [(a, b, RPM.compare(a, b)) for a, b, _ in vectors] == [(a, b, int(c)) for a, b, c in vectors]
