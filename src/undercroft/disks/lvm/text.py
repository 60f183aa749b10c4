r"""LVM2's text format: sections, numbers, strings and arrays, read into dictionaries.

Guarantees: any bytes give values within the limits below or `InputError` that begins with "lvm"; no
recursion. Follows lvm.conf(5) and LVM2's libdm/libdm-config.c as far as metadata uses them.

    >>> parse(b'vg { id = "x" seqno = 3 stripes = ["pv0", 0] }')
    {'vg': {'id': 'x', 'seqno': 3, 'stripes': ['pv0', 0]}}
"""

import re
from collections.abc import Iterator

from undercroft.errors import InputError

MAX_DEPTH = 8
"""A segment of a volume of a group is four deep."""
MAX_TOKENS = 1_000_000
MAX_NUMBER_DIGITS = 19

Scalar = str | int
Section = dict[str, "Scalar | list[Scalar] | Section"]

_TOKEN = re.compile(
    r"""\s++ | \#[^\n]*+
      | "(?P<string>(?:[^"\\]|\\.)*+)"
      | (?P<mark>[{}\[\]=,])
      | (?P<number>-?[0-9]++(?:\.[0-9]++)?+)(?![A-Za-z0-9_+./-])
      | (?P<word>[A-Za-z0-9_+./-]++)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

Token = tuple[str, str]


def parse(untrusted: bytes) -> Section:
    """Return the top section of a text. Raises InputError where it is malformed or beyond the limits."""
    tokens = _tokens(untrusted.decode("utf-8", "surrogateescape"))
    top: Section = {}
    open_sections = [top]
    for kind, text in tokens:
        if (kind, text) == ("mark", "}"):
            open_sections.pop()
            if not open_sections:
                raise InputError("lvm metadata: a section ends that never began")
            continue
        if kind == "mark":
            raise InputError(f"lvm metadata: {text!r} where a name belongs")
        section = open_sections[-1]
        if text in section:
            raise InputError(f"lvm metadata: {text[:64]!r} stands twice in a section")
        mark = next(tokens, ("end", ""))
        if mark == ("mark", "{"):
            inner: Section = {}
            section[text] = inner
            open_sections.append(inner)
            if len(open_sections) > MAX_DEPTH:
                raise InputError(f"lvm metadata: sections nested deeper than {MAX_DEPTH}")
        elif mark == ("mark", "="):
            section[text] = _value(tokens)
        else:
            raise InputError(f"lvm metadata: {text[:64]!r} has no value")
    if len(open_sections) != 1:
        raise InputError("lvm metadata: it ends within a section")
    return top


def _value(tokens: Iterator[Token]) -> "Scalar | list[Scalar]":
    token = next(tokens, ("end", ""))
    if token != ("mark", "["):
        return _scalar(token)
    values: list[Scalar] = []
    token = next(tokens, ("end", ""))
    while token != ("mark", "]"):
        values.append(_scalar(token))
        token = next(tokens, ("end", ""))
        if token == ("mark", ","):
            token = next(tokens, ("end", ""))
        elif token != ("mark", "]"):
            raise InputError("lvm metadata: an array's values without a comma")
    return values


def _scalar(token: Token) -> Scalar:
    kind, text = token
    if kind == "number":
        whole = text.partition(".")[0]
        if len(whole) > MAX_NUMBER_DIGITS:
            raise InputError(f"lvm metadata: a number of {len(whole)} digits")
        return int(whole)
    if kind in ("string", "word"):
        return text
    raise InputError(f"lvm metadata: {text or 'its end'!r} where a value belongs")


def _tokens(text: str) -> Iterator[Token]:
    position = count = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InputError(f"lvm metadata: {text[position : position + 16]!r} at {position} is no token")
        position = match.end()
        kind = match.lastgroup
        if kind is None:
            continue
        count += 1
        if count > MAX_TOKENS:
            raise InputError(f"lvm metadata: more than {MAX_TOKENS} words")
        found = match[kind]
        yield kind, _ESCAPE.sub(r"\1", found) if kind == "string" and "\\" in found else found
