"""What a table has that the model does not know fails its proof, wherever it stands in the table."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from filterproofs import POLICY, classes, fleet, ruleset

from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.proof import Prover
from undercroft.firewall.kernel import Chain, Counter, Rule, Ruleset, SetDefinition, Unknown

STOLEN = b"vnet1".ljust(16, b"\0") + bytes((0x52, 0x54, 0, 0, 0, 1, 0, 0)) + bytes((10, 1, 0, 2))


def prove(table: Ruleset) -> Certificate | Counterexample:
    return Prover().prove(table, POLICY, fleet(6), classes())


def refused(table: Ruleset) -> str:
    answer = prove(table)
    assert isinstance(answer, Counterexample), answer.text()
    assert answer.theorem == "what the table says"
    return answer.says


def with_set(name: str, /, **changes: object) -> Ruleset:
    honest = ruleset()
    sets = tuple(
        replace(item, **changes) if item.name == name else item  # type: ignore[arg-type]
        for item in honest.table.sets
    )
    assert sets != honest.table.sets
    return replace(honest, table=replace(honest.table, sets=sets))


def with_chain(chain: Chain) -> Ruleset:
    honest = ruleset()
    return replace(honest, table=replace(honest.table, chains=(*honest.table.chains, chain)))


@pytest.mark.parametrize("name", ["sources4", "asked", "to-1", "uplinks"])
def test_what_is_not_known_of_a_set_fails_the_proof(name: str) -> None:
    said = refused(with_set(name, unknown=("elements with expressions",)))
    assert said.startswith(f"set {name}: it has elements with expressions, which the proof does not know")


@pytest.mark.parametrize("name", ["classes", "sources4", "headers6", "errors4", "class-whole", "to-1"])
def test_a_set_whose_keys_have_another_size_fails_the_proof_though_its_elements_do_not_tell(
    name: str,
) -> None:
    (mine,) = (item for item in ruleset().table.sets if item.name == name)
    key = ("ether_type" if mine.key[0] != "mark" else "ifname", *mine.key[1:])
    assert refused(with_set(name, key=key)).startswith(f"set {name}: its keys have another size")


@pytest.mark.parametrize("name", ["sources4", "to-2"])
def test_what_is_known_of_keys_is_taken_of_none_of_another_size_also_where_there_are_no_elements(
    name: str,
) -> None:
    honest = ruleset(0)
    sets = tuple(
        replace(item, key=("ether_type", *item.key[1:])) if item.name == name else item
        for item in honest.table.sets
    )
    answer = Prover().prove(
        replace(honest, table=replace(honest.table, sets=sets)), POLICY, fleet(0), classes()
    )
    if name == "sources4":
        assert isinstance(answer, Counterexample), "the lemmas speak of parts of its keys"
        assert answer.says.startswith("set sources4: its keys have 16 bytes")
    else:
        assert isinstance(answer, Certificate), "an empty set has no key, of whatever size"


def test_an_expression_that_is_not_known_fails_the_proof_also_where_no_rule_leads_to_it() -> None:
    said = refused(with_chain(Chain("aside", (Rule((Counter(), Unknown("xt", b""))),))))
    assert "chain aside, rule 1: 'xt'" in said


@pytest.mark.parametrize(
    ("flags", "word"), [(1, "dormant"), (2, "goes with the process"), (4, "flag 0x4"), (3, "dormant")]
)
def test_a_table_with_a_flag_fails_the_proof(flags: int, word: str) -> None:
    honest = ruleset()
    assert word in refused(replace(honest, table=replace(honest.table, flags=flags)))


def test_a_chain_with_flags_that_are_not_known_fails_the_proof() -> None:
    assert "flags 0x2" in refused(with_chain(Chain("aside", (), unknown=("flags 0x2",))))


def test_a_chain_that_was_made_for_one_rule_fails_the_proof() -> None:
    assert "made for one rule" in refused(with_chain(Chain("__chain0", (), bound=True)))


CHANGES: tuple[tuple[str, Callable[[], Ruleset]], ...] = (
    ("set macs: its elements end by themselves", lambda: with_set("macs", timeout_ms=1000)),
    ("set macs: it says no size", lambda: with_set("macs", size=0)),
    ("set macs: it was made for one rule", lambda: with_set("macs", anonymous=True)),
    ("set asked: no packet can write it", lambda: with_set("asked", dynamic=False)),
    ("set asked: its elements never end", lambda: with_set("asked", timeout_ms=0)),
    ("set asked: it says no size", lambda: with_set("asked", size=0)),
    ("set asked: its elements are none that", lambda: with_set("asked", data="mark")),
    ("set flows4: its elements are none that", lambda: with_set("flows4", key=("ipv4_addr",))),
    ("set flows4: its elements are none that", lambda: with_set("flows4", key=("type 77",))),
    ("set other: it is none of the policy's", lambda: with_set("flows4", name="other")),
    ("set other: it is none of the policy's", lambda: with_set("to-1", name="other")),
)


@pytest.mark.parametrize(("said", "table"), CHANGES)
def test_a_set_that_is_not_as_the_policy_has_it_fails_the_proof(
    said: str, table: Callable[[], Ruleset]
) -> None:
    assert refused(table()).startswith(said)


def test_a_set_that_is_not_there_fails_the_proof() -> None:
    honest = ruleset()
    sets = tuple(item for item in honest.table.sets if item.name != "outside6")
    assert "set outside6: it is not in the table" in refused(
        replace(honest, table=replace(honest.table, sets=sets))
    )


def test_a_stolen_address_does_not_hide_in_a_set_that_packets_may_write() -> None:
    """Contents of dynamic sets follow from packets; a set of the fleet's must not pass for one."""
    honest = with_set("sources4", dynamic=True, timeout_ms=1000)
    held = {**honest.elements, "sources4": {**honest.elements["sources4"], STOLEN: None}}
    for timeout_ms in (0, 1000):
        sets = tuple(
            replace(item, timeout_ms=timeout_ms) if item.name == "sources4" else item
            for item in honest.table.sets
        )
        table = replace(honest, table=replace(honest.table, sets=sets), elements=held)
        assert refused(table).startswith("set sources4: packets write it")


def test_two_sets_of_one_name_fail_the_proof() -> None:
    honest = ruleset()
    twin = SetDefinition("macs", ("ifname", "ether_addr"), size=64)
    table = replace(honest, table=replace(honest.table, sets=(*honest.table.sets, twin)))
    assert "one name" in refused(table)


def test_a_set_whose_elements_were_not_read_fails_the_proof() -> None:
    honest = ruleset()
    left = {name: held for name, held in honest.elements.items() if name != "macs"}
    answer = prove(replace(honest, elements=left))
    assert isinstance(answer, Counterexample)
    assert answer.set_name == "macs"


def test_what_is_not_known_fails_the_proof_also_after_one_that_held() -> None:
    prover, honest = Prover(), ruleset()
    assert isinstance(prover.prove(honest, POLICY, fleet(6), classes()), Certificate)
    for changed in (
        with_set("asked", unknown=("a thing",)),
        with_chain(Chain("aside", (), unknown=("flags 0x2",))),
        replace(honest, table=replace(honest.table, flags=4)),
    ):
        assert isinstance(prover.prove(changed, POLICY, fleet(6), classes()), Counterexample)
    assert isinstance(prover.prove(honest, POLICY, fleet(6), classes()), Certificate)
