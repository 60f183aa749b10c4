r"""What a guest wrote, made visible and harmless.

Guarantees, for every text: the result holds no control character, nothing invisible, nothing that
changes the direction of text, no lone surrogate, and no character that joins its left neighbour beyond
`MAX_MARKS` marks; so it can't move the cursor, hide, reorder or overlay what stands beside it.
`unescape(escape(text)) == text`, so no information is lost.

    \xNN        an undecodable byte (PEP 383 keeps it as a lone surrogate)
    \uNNNN      a character, \UNNNNNNNN beyond the basic plane
    \\          a backslash

Categories are those of the Unicode Character Database (UAX #44), invisible letters its property
Default_Ignorable_Code_Point; the attack on readers is CVE-2021-42574.
"""

import re
import unicodedata

MAX_MARKS = 2
"""Combining marks that one base character keeps; more (piled up, they reach other lines) are escaped."""

_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs", "Me"})
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
_ESCAPE_SEQUENCE = re.compile(r"\\(?:\\|x[0-9A-F]{2}|u[0-9A-F]{4}|U[0-9A-F]{8})")


def escape(untrusted: str) -> str:
    """Return `untrusted` as visible text that `unescape` turns back."""
    return harmless(untrusted.replace("\\", "\\\\"))


def harmless(untrusted: str) -> str:
    """Return `untrusted` as visible text, backslashes as they are: for messages, which nobody turns back."""
    if untrusted.isascii() and untrusted.isprintable():
        return untrusted
    pieces = []
    marks = MAX_MARKS  # a mark at the start would join whatever is printed before the text
    for character in untrusted:
        category = unicodedata.category(character)
        marks = marks + 1 if category == "Mn" else 0
        if _is_unsafe(character, category) or marks > MAX_MARKS:
            pieces.append(_sequence(character))
            marks = MAX_MARKS  # nor may a mark join the last digit of an escape
        else:
            pieces.append(character)
    return "".join(pieces)


def harmless_lines(untrusted: str) -> str:
    """Return `untrusted` as `harmless` does, with its line feeds: for messages of a line for each mistake.

    Every line but the first is indented. So a text that a guest chose, with a line feed in it, never begins a
    line of ours: it can't pass for an error of its own, nor for a signed head in the journal.
    """
    return "\n  ".join(map(harmless, untrusted.split("\n")))


def unescape(text: str) -> str:
    """Return the text that `escape` was given."""
    return _ESCAPE_SEQUENCE.sub(_character, text)


def cell_width(text: str) -> int:
    """Return how many columns of a terminal the escaped `text` takes (UAX #11)."""
    if text.isascii():
        return len(text)
    return sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.category(character) == "Mn":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_unsafe(character: str, category: str) -> bool:
    return (category in _ESCAPED_CATEGORIES and character != " ") or character in _INVISIBLE


def _sequence(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


def _character(sequence: re.Match[str]) -> str:
    kind, digits = sequence[0][1], sequence[0][2:]
    if kind == "\\":
        return "\\"
    return chr(int(digits, 16) + (0xDC00 if kind == "x" else 0))
