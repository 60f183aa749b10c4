"""The reasons of a vault's refusals in words: what was found, and what to do."""

from collections.abc import Mapping
from types import MappingProxyType

from undercroft.vault import answers

REASONS: Mapping[int, str] = MappingProxyType(
    {
        answers.FENCED: "this execution does not hold the vault's fence: another took it, or it was ended",
        answers.FORGOTTEN: "the answer to this number is no longer kept, or it was left out: ask anew",
        answers.CONFLICT: "this number was another request's: each request takes the next number",
        answers.UNKNOWN: "there is no such operation",
        answers.MALFORMED: f"a request reserves from 1 to {answers.RESERVE_LIMIT} values",
        answers.EXHAUSTED: "this epoch has no such value left: values go on in the next one",
        answers.SPENT: "the value was spent before",
        answers.MOVED: "it is not where the request expects it: read it again, then decide",
        answers.LOST: "a later execution took the fence, or this one was ended: it never gets it back",
        answers.HELD: "the execution that this one was forked from lives, and holds the fence",
        answers.PAST: "an epoch has to be later than each before it, and below the limit",
        answers.UNBEGUN: "no epoch has begun",
        answers.REVOKED: "the name was revoked",
    }
)
