"""What is sent to make one table of another, in which order; and what the kernel's errors mean."""

import errno
import os
from dataclasses import replace

import pytest
from hypothesis import given
from rulesetvalues import rulesets

from undercroft.adapters.nftables import numbers
from undercroft.adapters.nftables.difference import changed, created, elements_changed, recreated
from undercroft.adapters.nftables.failures import FullError, StaleError, failure
from undercroft.adapters.nftables.stages import stages
from undercroft.adapters.nftables.wire import Request
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError, StateError
from undercroft.firewall.kernel import (
    Chain,
    Code,
    Hook,
    Immediate,
    Key,
    Lookup,
    Meta,
    Rule,
    Ruleset,
    SetDefinition,
    Table,
    Verdict,
)

NAMES = SetDefinition("names", ("ifname",), "verdict", 64)
HOSTS = SetDefinition("hosts", ("ipv4_addr",), "", 64)
BY_NAME = Rule((Meta(0, Key.INPUT_NAME), Lookup("names", 0, verdicts=True)))
PORT = b"vnet0" + bytes(11)


def to(chain: str) -> Verdict:
    return Verdict(Code.GOTO, chain)


def table(*chains: Chain, goes_to: str = "web", sets: tuple[SetDefinition, ...] = (NAMES,)) -> Ruleset:
    forward = Chain("forward", (BY_NAME,), Hook.FORWARD, -400, Code.DROP)
    return Ruleset(Table("t", sets, (forward, *chains)), {"names": {PORT: to(goes_to)}})


def words(requests: list[Request]) -> list[str]:
    kinds = {
        numbers.NEW_TABLE: "table",
        numbers.DELETE_TABLE: "delete table",
        numbers.NEW_CHAIN: "chain",
        numbers.DELETE_CHAIN: "delete chain",
        numbers.NEW_RULE: "rule",
        numbers.DELETE_RULE: "delete rules",
        numbers.NEW_SET: "set",
        numbers.DELETE_SET: "delete set",
        numbers.NEW_ELEMENT: "elements",
        numbers.DELETE_ELEMENT: "delete elements",
    }
    return [kinds[request.kind] for request in requests]


WEB, DB = Chain("web", (Rule((Immediate(Verdict(Code.ACCEPT)),)),)), Chain("db", ())


@given(rulesets())
def test_nothing_is_sent_for_a_table_that_is_as_it_should_be(ruleset: Ruleset) -> None:
    assert changed(ruleset, ruleset) == []
    assert stages(ruleset, ruleset) == []


def test_what_is_named_is_made_before_what_names_it_and_deleted_after() -> None:
    assert words(created(table(WEB))) == ["table", "chain", "chain", "set", "elements", "rule", "rule"]
    assert words(recreated(table(WEB)))[:2] == ["table", "delete table"]
    larger = table(WEB, sets=(replace(NAMES, size=128),))
    assert words(changed(table(WEB), larger)) == [
        "table",
        "delete rules",
        "delete set",
        "set",
        "elements",
        "rule",
    ]


def test_an_element_changes_alone() -> None:
    other = replace(table(WEB), elements={"names": {PORT: Verdict(Code.DROP)}})
    assert words(changed(table(WEB), other)) == ["table", "delete elements", "elements"]


def test_a_new_chain_comes_before_the_element_that_goes_to_it() -> None:
    first, then = stages(table(WEB), table(DB, goes_to="db"))
    assert words(first) == ["table", "chain"]
    assert words(then) == ["table", "delete rules", "delete elements", "delete chain", "elements"]


def test_a_new_chain_brings_the_new_sets_that_it_looks_into() -> None:
    looks = Chain("db", (Rule((Lookup("hosts", 0),)),))
    first, then = stages(table(WEB), table(looks, goes_to="db", sets=(HOSTS, NAMES)))
    assert words(first) == ["table", "chain", "set", "rule"]
    assert "set" not in words(then)


def test_a_chain_that_looks_into_a_set_that_is_made_anew_comes_with_it() -> None:
    looks = Chain("db", (BY_NAME,))
    wanted = table(WEB, looks, sets=(replace(NAMES, size=128),))
    (only,) = stages(table(WEB), wanted)
    assert words(only).count("chain") == 1


def test_chains_on_a_hook_never_come_first() -> None:
    based = Chain("late", (), Hook.INPUT, -400, Code.DROP)
    (only,) = stages(table(WEB), table(WEB, based))
    assert words(only) == ["table", "chain"]
    jumps = Chain("db", (Rule((Immediate(to("based")),)),))
    again = stages(table(WEB), table(WEB, jumps, Chain("based", (Rule((Immediate(to("web")),)),))))
    assert words(again[0]) == ["table", "chain", "chain", "rule", "rule"]


def test_what_goes_with_its_rule_is_not_deleted_by_itself() -> None:
    own = SetDefinition("__set0", ("ipv4_addr",), anonymous=True)
    looked_up = Chain("web", (Rule((Lookup("__set0", 0), Immediate(to("__chain1")))),))
    held = table(looked_up, Chain("__chain1", WEB.rules, bound=True), sets=(own, NAMES))
    assert words(changed(held, table(WEB))) == ["table", "delete rules", "rule"]
    with pytest.raises(InputError, match="bound to one rule"):
        created(held)


def test_the_flags_of_a_table_are_given_back() -> None:
    dormant = table(WEB)
    dormant = replace(dormant, table=replace(dormant.table, flags=1))
    assert words(changed(dormant, table(WEB))) == ["table"]


def test_elements_of_a_set_that_the_table_has_not_are_refused() -> None:
    with pytest.raises(InputError, match="no set 'nowhere'"):
        elements_changed(table(WEB).table, {}, {"nowhere": [b""]})
    removed_first = elements_changed(table(WEB).table, {"names": {PORT: to("db")}}, {"names": [PORT]})
    assert words(removed_first) == ["delete elements", "elements"]


@pytest.mark.parametrize(
    ("number", "kind", "expected", "part"),
    [
        (errno.EPERM, numbers.NEW_RULE, DeniedError, "CAP_NET_ADMIN"),
        (errno.ENOENT, numbers.GET_TABLE, NotFoundError, "does not have it"),
        (errno.ENOENT, numbers.DELETE_ELEMENT, NotFoundError, "does not have it"),
        (errno.ENOENT, numbers.NEW_RULE, OperationError, "undercroft doctor"),
        (errno.EPROTO, numbers.NEW_RULE, OperationError, "this kernel lacks"),
        (errno.EOPNOTSUPP, numbers.NEW_CHAIN, OperationError, "this kernel lacks"),
        (errno.EEXIST, numbers.NEW_ELEMENT, StateError, "other contents"),
        (errno.EBUSY, numbers.DELETE_SET, StateError, "in use"),
        (errno.ENFILE, numbers.NEW_ELEMENT, FullError, "larger size"),
        (errno.ENOBUFS, numbers.NEW_RULE, OperationError, "no room"),
        (errno.EINVAL, numbers.NEW_RULE, OperationError, "refuses"),
        (85, -1, StaleError, "read them again"),
    ],
)
def test_an_error_names_the_thing_and_what_to_do(
    number: int, kind: int, expected: type[Exception], part: str
) -> None:
    error = failure(number, "rule 1 of chain 'c'", kind)
    assert type(error) is expected
    assert part in str(error)
    if expected is not StaleError:
        assert "rule 1 of chain 'c'" in str(error)
        assert os.strerror(number) in str(error)
        assert "because so" in str(failure(number, "it", kind, "because so"))
