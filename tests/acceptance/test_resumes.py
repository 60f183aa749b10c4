"""A real guest, resumed from one snapshot several times: what it draws, with the layer and without.

One boot and one campaign for all tests here. The guest's kernel is Debian's cloud kernel, which has no driver
of vmgenid; the guest service is the real one. The whole matrix is in test_resumes_matrix.py.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import p256
import pytest
import resumelab
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from resumelab import Guest, Lab, shared
from tpmcounter import TpmCounter

pytestmark = [
    pytest.mark.skipif(bool(resumelab.missing()), reason=resumelab.missing()),
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("resumes"),
]
FROM_THE_KERNEL = ("getrandom", "uuid", "tls")
"""Kinds of draws that come from the guest's kernel each time."""
DRAWS, LOOPED = 4, 1000
BARE_TRIES = 5


@dataclass
class Campaign:
    """What came of it: each list has an entry for each resume.

    Attributes:
        public: public keys of the guest's signers.
        bare: draws of resumes without the layer.
        bare_signed: the signers' signatures there, each over another message.
        bare_looped: draws of a tight loop, begun after the resume.
        draws: with the layer.
        signed: with the layer.
        looped: with the layer.
        counted: values of a counter in the vault: before the snapshot, after it, and after each resume.
        tpm: the same of the virtual TPM.
        fences: of each clone that began at once, whether it holds the vault.
        spent: what each was told that spent one token of the vault, all at once.
        spent_own: the same of a token in the clone's own memory.
        spent_later: what another one was told when who had held the vault was dead.
    """

    public: dict[str, list[int]] = field(default_factory=dict)
    bare: list[dict[str, list[str]]] = field(default_factory=list)
    bare_signed: list[dict[str, list[int]]] = field(default_factory=list)
    bare_looped: list[list[str]] = field(default_factory=list)
    draws: list[dict[str, list[str]]] = field(default_factory=list)
    signed: list[dict[str, list[int]]] = field(default_factory=list)
    looped: list[list[str]] = field(default_factory=list)
    counted: list[list[int]] = field(default_factory=list)
    tpm: list[list[int]] = field(default_factory=list)
    fences: list[bool] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    spent_own: list[str] = field(default_factory=list)
    spent_later: str = ""


def draw_the_same(resumes: Sequence[dict[str, list[str]]]) -> bool:
    """Tell whether resumes of one snapshot drew the same from the kernel."""
    return all(each[kind] == resumes[0][kind] for each in resumes for kind in FROM_THE_KERNEL)


def without_the_layer(lab: Lab, guest: Guest, found: Campaign, resumes: int) -> Guest:
    """Resume a guest whose channel nobody serves.

    The kernel of a guest that has not run for long draws a new key by itself every few seconds. The snapshot
    is taken right after such a one, and again where a guest came to the next before it drew: the longer it
    has run, the longer that takes.
    """
    for number in range(BARE_TRIES):
        guest.ask("reseed")
        lab.snapshot(guest, f"idle{number}")
        found.bare, found.bare_signed = [], []
        for resume in range(resumes):
            guest = lab.revert(guest, f"idle{number}")
            found.bare.append(guest.ask("draw", DRAWS))
            found.bare_signed.append(guest.ask("sign", message(resume)))
        if draw_the_same(found.bare):
            break
    guest.ask("reseed")
    guest.ask("loop_start")
    guest.ask("loop_drawn", 0, 100)
    first = resumelab.drawn_in(lab.snapshot(guest, "exposed"))
    for _ in range(2):
        lab.load(guest, "exposed")
        found.bare_looped.append(guest.loop(first, LOOPED))
    return guest


def with_the_layer(lab: Lab, guest: Guest, found: Campaign, resumes: int) -> Guest:
    """Resume a guest that was quiesced for its snapshot, and is given a seed each time."""
    tpm = TpmCounter(lambda command: str(guest.ask("tpm", command)))
    tpm.define()
    lab.layer.seed(guest)
    found.counted.append(guest.ask("counter", "invoice", 5))
    found.tpm.append([tpm.increment() for _ in range(5)])
    guest.ask("loop_start")
    guest.ask("loop_drawn", 0, 100)
    guest.ask("hardware", 1)  # leaves 48 bytes in /dev/hwrng, and its driver's 64
    lab.layer.quiesce(guest)
    first = resumelab.drawn_in(lab.snapshot(guest, "quiesced"))
    lab.layer.go_on(guest)
    guest.ask("loop_stop")
    for number in range(resumes + 1):
        if number > 0:
            guest = lab.revert(guest, "quiesced")
            lab.layer.seed(guest)
            found.looped.append(guest.loop(first, LOOPED))
            found.draws.append(guest.ask("draw", DRAWS))
            found.signed.append(guest.ask("sign", message(number)))
        found.counted.append(guest.ask("counter", "invoice", 7))
        found.tpm.append([tpm.increment() for _ in range(7)])
    return guest


def clones_of(lab: Lab, guest: Guest, found: Campaign, count: int) -> None:
    """Begin clones of a machine that is no more, and let them race."""
    lab.layer.quiesce(guest)
    file, _ = lab.save(guest)
    lab.layer.client.detach(lab.layer.machine, guest.execution, ended=True)
    clones = [lab.restore(file, lab.copy(guest.disk), lab.copy(guest.state)) for _ in range(count)]
    for clone in clones:
        found.fences.append(lab.layer.attach(clone, forked=True))
    for clone in clones:
        lab.layer.confirmed(clone)
        clone.tell("spend", "voucher")
    found.spent = [clone.told() for clone in clones]
    found.spent_own = [clone.ask("spend_own", "voucher") for clone in clones]
    holder, other = sorted(clones, key=lambda clone: found.spent[clones.index(clone)] != "spent")[:2]
    holder.end()
    lab.layer.client.detach(lab.layer.machine, holder.execution, ended=True)
    assert lab.layer.client.renew(lab.layer.machine, other.execution, forked=True, before=other.execution)
    found.spent_later = other.ask("spend", "voucher")


def campaign_of(lab: Lab, resumes: int) -> Campaign:
    """Run it all."""
    found = Campaign()
    guest = lab.boot()
    found.public = guest.ask("public")
    guest = without_the_layer(lab, guest, found, resumes)
    guest = with_the_layer(lab, guest, found, resumes)
    clones_of(lab, guest, found, resumes)
    return found


@pytest.fixture(scope="module", params=[2, pytest.param(8, marks=pytest.mark.soak)], ids="{} resumes".format)
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    with resumelab.lab(tpm=True) as lab:
        yield campaign_of(lab, request.param)


def message(number: int) -> str:
    return f"order-{number}"


def digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def signed_with(found: Sequence[dict[str, Any]], signer: str, public: list[int], first: int) -> list[Any]:
    """Return a signer's signatures as (digest, r, s), each checked with another implementation."""
    key = ec.EllipticCurvePublicNumbers(*public, ec.SECP256R1()).public_key()
    signatures = []
    for number, each in enumerate(found, first):
        r, s = each[signer]
        key.verify(utils.encode_dss_signature(r, s), message(number).encode(), ec.ECDSA(SHA256()))
        signatures.append((digest(message(number)), r, s))
    return signatures


def gives_its_key_away(signatures: Sequence[tuple[int, int, int]], public: list[int]) -> bool:
    """Tell whether two signatures tell the private key."""
    found = p256.from_one_nonce(signatures[0], signatures[1])
    return p256.times(found, p256.G) == tuple(public)


def test_without_the_layer_resumes_draw_the_same(campaign):
    assert draw_the_same(campaign.bare), campaign.bare
    assert shared(each["hwrng"] for each in campaign.bare) > 0


def test_with_the_layer_no_resume_draws_what_another_one_drew(campaign):
    for kind in (*FROM_THE_KERNEL, "hwrng", "tls_aware"):
        assert shared(each[kind] for each in campaign.draws) == 0, kind


def test_what_a_process_keeps_for_itself_repeats_unless_it_looks_at_the_generation(campaign):
    """OpenSSL's generator lies in the process, where no seed of the kernel's reaches it."""
    for each in campaign.draws:
        assert each["tls_old"] == campaign.draws[0]["tls_old"]


def test_a_signer_without_the_layer_gives_its_private_key_away(campaign):
    for signer in ("signer", "signer_aware"):
        public = campaign.public[signer]
        first, second, *_ = signed_with(campaign.bare_signed, signer, public, first=0)
        assert first[1] == second[1], "one nonce for two messages"
        assert gives_its_key_away((first, second), public)


def test_a_signer_that_looks_at_the_generation_keeps_its_key(campaign):
    public = campaign.public["signer_aware"]
    signatures = signed_with(campaign.signed, "signer_aware", public, first=1)
    assert len({r for _, r, _ in signatures}) == len(signatures)
    assert not gives_its_key_away(signatures, public)


def test_a_signer_that_does_not_look_gives_its_key_away_all_the_same(campaign):
    """What the layer cannot do for it, and ENTROPY.md says so."""
    public = campaign.public["signer"]
    assert gives_its_key_away(signed_with(campaign.signed, "signer", public, first=1), public)


def test_a_tight_loop_draws_nothing_stale_across_a_quiesced_resume_and_does_across_an_exposed_one(campaign):
    assert all(len(each) == LOOPED for each in (*campaign.bare_looped, *campaign.looped))
    assert shared(campaign.bare_looped) > LOOPED // 2
    assert shared(campaign.looped) == 0


def test_a_counter_of_the_vault_never_repeats_and_a_virtual_tpms_does(campaign):
    values = [value for each in campaign.counted for value in each]
    assert values == sorted(set(values))
    before, *after = campaign.tpm
    assert all(each == [before[-1] + step for step in range(1, 8)] for each in after)


def test_of_clones_that_race_to_spend_one_token_one_wins_and_the_others_are_told(campaign):
    assert campaign.spent_own == ["spent"] * len(campaign.spent), "each from its own memory"
    assert sorted(campaign.fences) == [False] * (len(campaign.fences) - 1) + [True]
    won = [told == "spent" for told in campaign.spent]
    assert won == campaign.fences
    others = [told for told in campaign.spent if told != "spent"]
    assert all("does not hold the vault" in told for told in others), others
    assert "spent before" in campaign.spent_later, "the one that inherits the vault does not spend it anew"
