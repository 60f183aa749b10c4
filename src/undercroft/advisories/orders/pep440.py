"""Python's version order, as pip has it.

Follows PEP 440 and its permitted spellings ("1.0-beta.2", "v1.0", "1.0.post1", "1!2.0+local"). What is no
version sorts below all that are, so that it counts as affected.

    >>> key("1.0.dev1") < key("1.0a1") < key("1.0rc1") < key("1.0") < key("1.0.post1") < key("1.0.1")
    True
"""

import re
from functools import lru_cache

from undercroft.advisories.orders.order import check_length, encoded, number
from undercroft.errors import InputError

_VERSION = re.compile(
    rb"v?(?:(?P<epoch>[0-9]+)!)?(?P<release>[0-9]+(?:\.[0-9]+)*)"
    rb"(?:[-_.]?(?P<pre>alpha|beta|preview|pre|rc|a|b|c)[-_.]?(?P<pre_n>[0-9]*))?"
    rb"(?:-(?P<bare_post>[0-9]+)|(?P<post>[-_.]?(?:post|rev|r)[-_.]?(?P<post_n>[0-9]*)))?"
    rb"(?P<dev>[-_.]?dev[-_.]?(?P<dev_n>[0-9]*))?"
    rb"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?",
    re.IGNORECASE,
)
_PHASES = {b"a": b"\x01", b"alpha": b"\x01", b"b": b"\x02", b"beta": b"\x02"}
_CANDIDATE, _BEFORE_PHASES, _AFTER_PHASES = b"\x03", b"\x00", b"\x04"
_BROKEN, _VALID = b"\x00", b"\x01"
_NONE, _SOME = b"\x00", b"\x01"


@lru_cache(maxsize=1 << 16)
def key(version: str) -> bytes:
    """Return bytes that sort as pip sorts `version`; "1.0" and "1.0.0" are equal."""
    text = encoded(version.strip())
    match = _VERSION.fullmatch(text)
    if match is None:
        return _BROKEN + text
    numbers = [part.lstrip(b"0") for part in match["release"].split(b".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    release = b"".join([b"\x02" + number(part) for part in numbers]) + b"\x01"
    post = match["bare_post"] or (match["post_n"] or b"0" if match["post"] else None)
    return b"".join(
        (
            _VALID,
            number(match["epoch"] or b""),
            release,
            _phase(match, is_post=post is not None),
            _NONE if post is None else _SOME + number(post),
            _NONE + number(match["dev_n"]) if match["dev"] else _SOME,
            _local(match["local"]),
        )
    )


def check(untrusted_version: str) -> None:
    """Raise InputError unless the text is a version by PEP 440."""
    check_length(untrusted_version)
    if not _VERSION.fullmatch(encoded(untrusted_version)):
        raise InputError(f"{untrusted_version!r} is not a Python version (1.2.3rc1)")


def _phase(match: re.Match[bytes], *, is_post: bool) -> bytes:
    """Return what sorts a.N, b.N, rc.N and the release; a bare development release goes before them all."""
    if match["pre"]:
        return _PHASES.get(match["pre"].lower(), _CANDIDATE) + number(match["pre_n"])
    return _BEFORE_PHASES if match["dev"] and not is_post else _AFTER_PHASES


def _local(text: bytes | None) -> bytes:
    if text is None:
        return _NONE
    parts = re.split(rb"[-_.]", text.lower())
    keys = [b"\x02" + number(part) if part.isdigit() else b"\x01" + part + b"\x00" for part in parts]
    return _SOME + b"".join(keys) + b"\x00"
