"""A host's filter proven with what stands around it: certificates that stand, and what takes them away."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import portlab
import pytest
from filterproofs import POLICY, classes, fleet, ruleset
from memoryrecords import MemoryRecords
from netns import call_in_own_network
from portlab import run

from undercroft.adapters.nftables import Nftables
from undercroft.adapters.surroundings import gather
from undercroft.adapters.surroundings.shielding import shield
from undercroft.assurance.auditheads import public_key
from undercroft.assurance.firewall.certificate import Certificate, Counterexample, Standing
from undercroft.assurance.firewall.proof import Prover
from undercroft.errors import InputError, OperationError, StateError
from undercroft.usecases.firewall.proving import (
    Proven,
    Signing,
    Wanted,
    document,
    export,
    prove,
    verify_certificate,
)
from undercroft.usecases.firewall.surrounding import Ground
from undercroft.usecases.fleet.audit.headfile import own_key

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROVER = Prover(lambda: AT)
"""One for all: what it has proven of the rules it need not prove again."""
pytestmark = pytest.mark.xdist_group("firewall-proving")
SCHEMA = Path(__file__).parents[2] / "docs/schema/certificate-v1.json"


def wanted() -> Wanted:
    return Wanted(POLICY, fleet(3), classes())


class Notary:
    """A record, a key, and what is proven with them."""

    def __init__(self, folder: Path) -> None:
        self.records = MemoryRecords()
        self.key_path = folder / "audit.key"
        self.key = public_key(own_key(self.key_path))
        self.file = folder / "certificate.json"

    def prove(self, kernel: Nftables) -> Proven:
        signing = Signing(self.records, self.key_path)
        return prove(Ground(kernel, gather), wanted, signing, lambda: AT, PROVER)

    def logged(self) -> list[str]:
        with self.records.reading() as record:
            return [entry.kind for entry in record.log_entries()]


@pytest.fixture
def notary(tmp_path: Path) -> Notary:
    return Notary(tmp_path)


def on_a_host(test: Callable[[Nftables], None]) -> None:
    """Run a test on a bridge with the table in force and nothing around it."""

    def inside() -> None:
        portlab.make_bridge()
        for one in fleet(3).ports:
            shield(one)
        with Nftables() as kernel:
            kernel.replace(ruleset(3))
            test(kernel)

    call_in_own_network(inside)


def signed_certificate(notary: Notary) -> Proven:
    found: list[Proven] = []
    on_a_host(lambda kernel: found.append(notary.prove(kernel)))
    return found[0]


def test_a_host_with_nothing_around_its_table_has_a_certificate_that_is_signed_and_on_record(
    notary: Notary,
) -> None:
    proven = signed_certificate(notary)
    assert isinstance(proven.answer, Certificate), proven.answer.text()
    assert (proven.standing, proven.findings, proven.signed) == (Standing.CERTIFIED, (), True)
    assert proven.answer.host == "host1"
    assert proven.answer.text().startswith("Certificate for table undercroft, generation ")
    assert notary.logged() == ["firewall"]
    export(proven, notary.file)
    assert verify_certificate(notary.file, notary.key, notary.records) == proven.answer


def test_a_certificate_that_was_changed_forged_or_made_elsewhere_is_refused(
    notary: Notary, tmp_path: Path
) -> None:
    export(signed_certificate(notary), notary.file)
    whole = json.loads(notary.file.read_text())
    with pytest.raises(StateError, match="the pinned one is"):
        verify_certificate(notary.file, public_key(own_key(tmp_path / "other.key")))
    with pytest.raises(StateError, match="the audit log knows nothing of it"):
        verify_certificate(notary.file, notary.key, MemoryRecords())
    for name, value in (
        ("generation", 1),
        ("policy_digest", "0" * 64),
        ("looked_around", False),
        ("assumptions", []),
        ("findings", [{"danger": "copy", "thing": "", "found": "", "cure": ""}]),
        ("signature", "00" * 64),
        ("signature", ""),
        ("signature", "no hexadecimal"),
    ):
        changed = {**whole, "certificate": {**whole["certificate"], name: value}}
        notary.file.write_text(json.dumps(changed))
        with pytest.raises(StateError):
            verify_certificate(notary.file, notary.key)
    for text in ("", "[]", "{}", '{"schema": "undercroft/certificate/1"}', "[" * 100_000):
        notary.file.write_text(text)
        with pytest.raises(InputError):
            verify_certificate(notary.file, notary.key)


def test_with_a_way_past_the_table_there_is_no_certificate_though_the_table_is_the_policy(
    notary: Notary,
) -> None:
    def attacked(kernel: Nftables) -> None:
        run("tc qdisc add dev vnet2 clsact")
        run("tc filter add dev vnet2 ingress u32 match u32 0 0 action mirred egress redirect dev vnet1")
        proven = notary.prove(kernel)
        assert isinstance(proven.answer, Certificate)
        assert (proven.standing, proven.signed) == (Standing.VOID, False)
        assert [finding.thing for finding in proven.findings] == ["tc filter ingress of vnet2"]
        assert proven.answer.text().startswith("No certificate: table undercroft is the policy")
        assert "-> tc filter del dev vnet2 ingress" in proven.answer.text()
        with pytest.raises(StateError, match="not signed, it is void"):
            export(proven, notary.file)
        run("tc qdisc del dev vnet2 clsact")
        assert notary.prove(kernel).standing is Standing.CERTIFIED

    on_a_host(attacked)
    assert notary.logged() == ["firewall"]


def test_what_could_not_be_told_is_a_reservation_that_is_signed_with_the_rest(notary: Notary) -> None:
    def unclear(kernel: Nftables) -> None:
        run(f"tc qdisc add dev {portlab.OUTSIDE} clsact")
        portlab.redirect_by_xdp(portlab.OUTSIDE, "lo")
        proven = notary.prove(kernel)
        assert (proven.standing, proven.signed) == (Standing.RESERVED, True)
        assert proven.answer.text().startswith("Certificate with reservations for table undercroft")
        export(proven, notary.file)
        assert verify_certificate(notary.file, notary.key).findings == proven.findings

    on_a_host(unclear)


def test_a_foreign_rule_is_a_counterexample_and_nothing_is_signed(notary: Notary) -> None:
    def changed(kernel: Nftables) -> None:
        run("nft insert rule bridge undercroft reach4 accept")
        proven = notary.prove(kernel)
        assert isinstance(proven.answer, Counterexample)
        assert (proven.standing, proven.signed) == (Standing.VOID, False)
        told = document(proven)
        jsonschema.validate(told, json.loads(SCHEMA.read_text()))
        assert told["certificate"] is None

    on_a_host(changed)
    assert notary.logged() == []


def test_tables_that_change_all_the_time_are_not_certified(notary: Notary) -> None:
    def restless(kernel: Nftables) -> None:
        def changing(*arguments: object) -> object:
            run("nft add table ip other", "nft delete table ip other")
            return gather(*arguments)  # type: ignore[arg-type]

        with pytest.raises(OperationError, match="changed 4 times"):
            prove(Ground(kernel, changing), wanted, None, lambda: AT, PROVER)  # type: ignore[arg-type]

    on_a_host(restless)


def test_a_machine_that_comes_while_it_is_proven_is_asked_for_again(notary: Notary) -> None:
    def late(kernel: Nftables) -> None:
        views = iter((replace(wanted(), fleet=fleet(2)), wanted()))
        proven = prove(Ground(kernel, gather), lambda: next(views), None, lambda: AT, PROVER)
        assert (proven.standing, proven.signed) == (Standing.CERTIFIED, False)

    on_a_host(late)


def test_a_certificate_has_the_form_that_is_documented_for_programs(notary: Notary) -> None:
    jsonschema.validate(document(signed_certificate(notary)), json.loads(SCHEMA.read_text()))
