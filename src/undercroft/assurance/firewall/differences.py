"""Contents of sets against what policy and fleet want, element by element; and how a difference is told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from undercroft.assurance.firewall.certificate import Counterexample
from undercroft.assurance.firewall.expected import Contents
from undercroft.assurance.firewall.search import Search
from undercroft.assurance.firewall.skeleton import Skeleton
from undercroft.firewall.kernel import Ruleset, Verdict

Held = Mapping[bytes, bytes | Verdict | None]
Elements = Mapping[str, Held]

_ABSENT = object()


def differing_keys(found: Elements, wanted: Contents) -> dict[str, list[bytes]]:
    """Return set -> keys whose elements are not what is wanted, in order; only sets that have any.

    Args:
        found: what the kernel holds; a set that was not read counts as empty.
        wanted: what policy and fleet say.
    """
    differing: dict[str, list[bytes]] = {}
    for name, want in wanted.items():
        have = found.get(name, {})
        if have != want:
            differing[name] = sorted(_unequal(have, want))
    return differing


def first_difference(
    found: Elements, wanted: Contents, keys: Mapping[str, set[bytes]]
) -> Counterexample | None:
    """Return the first of these keys whose element is not what is wanted, None where all are."""
    for name, some in keys.items():
        for key in sorted(some):
            want, have = wanted[name].get(key, _ABSENT), found.get(name, {}).get(key, _ABSENT)
            if want != have:
                says = "the element is not what the policy says"
                return Counterexample(f"contents of {name}", says, name, key, _told(want), _told(have))
    return None


def by_contents(
    skeleton: Skeleton, ruleset: Ruleset, wanted: Contents, differing: Mapping[str, Sequence[bytes]]
) -> Counterexample:
    """Return the first difference in contents, with a packet that shows it where one is found."""
    name, keys = next(iter(differing.items()))
    differ = "1 element is" if len(keys) == 1 else f"{len(keys)} elements are"
    plain = Counterexample(
        f"contents of {name}",
        f"{differ} not what policy and fleet say",
        name,
        keys[0],
        _told(wanted[name].get(keys[0], _ABSENT)),
        _told(ruleset.elements.get(name, {}).get(keys[0], _ABSENT)),
    )
    return _with_packet(plain, Search(skeleton, ruleset, wanted, differing))


def by_rules(skeleton: Skeleton, ruleset: Ruleset, wanted: Contents, failed: str) -> Counterexample:
    """Return that a part of the rules could not be shown, with a packet where one is found."""
    plain = Counterexample(
        f"rules {failed}", "the kernel's rules treat some packet otherwise than the policy"
    )
    return _with_packet(plain, Search(skeleton, ruleset, wanted))


def _unequal(have: Held, want: Held) -> Iterator[bytes]:
    for key in have.keys() | want.keys():
        if have.get(key, _ABSENT) != want.get(key, _ABSENT):
            yield key


def _with_packet(plain: Counterexample, search: Search) -> Counterexample:
    found = next(search.packets(), None)
    if found is None:
        return plain
    return replace(
        plain,
        packet=found.packet,
        kernel_passes=found.kernel_passes,
        policy_passes=found.policy_passes,
    )


def _told(data: object) -> str:
    match data:
        case bytes():
            return data.hex()
        case Verdict(code, chain):
            return f"{code} {chain}".strip()
        case None:
            return "present"
        case _:
            return "absent"
