"""The seed's construction against HMAC of the standard library, and what tells seeds apart."""

import hashlib
import hmac
import itertools

import pytest
from tests.support.channelpair import helper

from undercroft.entropy.seed import MAX_COUNT, MAX_EPOCH, Offer, generation
from undercroft.errors import InputError

NONCES, MACHINE, EXECUTION = b"n" * 32, b"m" * 16, b"e" * 16


def constant(size: int) -> bytes:
    """A generator of the host's that is broken: the same bytes each time."""
    return b"r" * size


def test_the_seed_is_hkdf_of_rfc_5869() -> None:
    offer = Offer.make(constant, NONCES, MACHINE, EXECUTION, 7)
    key = hmac.digest(NONCES, b"r" * 64, "sha256")
    info = b"undercroft seed 1" + MACHINE + EXECUTION + (7).to_bytes(8, "big")
    assert offer.seed == hmac.digest(key, info + b"\x01", "sha256")
    assert len(offer.seed) == hashlib.sha256().digest_size


def test_a_generator_that_repeats_gives_no_two_executions_one_seed() -> None:
    parts = [(NONCES, b"x" * 32), (MACHINE, b"y" * 16), (EXECUTION, b"z" * 16), (7, 8)]
    seeds = [Offer.make(constant, *chosen).seed for chosen in itertools.product(*parts)]  # type: ignore[arg-type]
    assert len(set(seeds)) == 16


def test_only_who_has_the_seed_confirms_it_and_only_its_generation() -> None:
    offer = Offer.make(constant, NONCES, MACHINE, EXECUTION, 7)
    tag = helper.confirmation(offer.seed, MACHINE, EXECUTION, 7)
    assert offer.is_confirmed_by(7, tag)
    assert not offer.is_confirmed_by(8, tag)
    assert not offer.is_confirmed_by(7, helper.confirmation(b"s" * 32, MACHINE, EXECUTION, 7))
    assert not offer.is_confirmed_by(7, b"")


def test_an_offer_that_is_shown_does_not_show_its_seed() -> None:
    offer = Offer.make(constant, NONCES, MACHINE, EXECUTION, 7)
    assert repr(offer.seed) not in repr(offer)


def test_generations_of_a_later_epoch_are_above_all_of_the_one_before() -> None:
    assert generation(2, 1) > generation(1, MAX_COUNT)
    assert generation(MAX_EPOCH, MAX_COUNT) < 1 << 63
    for epoch, count in ((0, 1), (1, 0), (MAX_EPOCH + 1, 1), (1, MAX_COUNT + 1)):
        with pytest.raises(InputError):
            generation(epoch, count)


def test_bytes_of_another_size_make_no_seed() -> None:
    for wrong in ((b"", MACHINE, EXECUTION), (NONCES, b"", EXECUTION), (NONCES, MACHINE, b"")):
        with pytest.raises(InputError):
            Offer.make(constant, *wrong, 7)
    with pytest.raises(InputError):
        Offer.make(lambda _: b"short", NONCES, MACHINE, EXECUTION, 7)
