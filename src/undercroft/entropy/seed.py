"""The seed of one session of one execution (docs/ENTROPY.md, "The seed").

    seed = HKDF-SHA256(64 bytes of the host's kernel, salt = both nonces,
                       info = "undercroft seed 1" | machine | execution | generation (8))

The kernel's bytes alone make it unknown to anybody else. What is bound into it beside them only makes sure
that a fault of that generator, which gave the same bytes twice, would not give two executions one seed.
Source: RFC 5869.
"""

import hmac
from dataclasses import dataclass, field

from undercroft.channel.keys import NONCE_BYTES, Random, confirmation, hkdf
from undercroft.channel.messages import SEED_BYTES
from undercroft.errors import InputError

FRESH_BYTES = 64
GENERATION_BITS = 40
MAX_COUNT = (1 << GENERATION_BITS) - 1
MAX_EPOCH = (1 << 23) - 1
LABEL = b"undercroft seed 1"
_ID_BYTES = 16


def generation(epoch: int, count: int) -> int:
    """Return the generation of the seed number `count` of an epoch: epoch x 2^40 + count.

    An epoch never comes twice (docs/VAULT.md), so no generation does, though `count` lives in memory alone.

    Raises InputError for an epoch outside 1 to `MAX_EPOCH`, and a count outside 1 to `MAX_COUNT`.
    """
    if not 1 <= epoch <= MAX_EPOCH or not 1 <= count <= MAX_COUNT:
        raise InputError(f"there is no generation of epoch {epoch} and number {count}: no epoch has begun?")
    return (epoch << GENERATION_BITS) + count


@dataclass(frozen=True, slots=True)
class Offer:
    """A seed that a guest was given and has not confirmed. Whoever drops the offer drops the seed with it.

    Attributes:
        machine: its UUID, 16 bytes.
        execution: its id, 16 bytes.
        generation: the number that the guest publishes with it.
        seed: 32 bytes.
    """

    machine: bytes
    execution: bytes
    generation: int
    seed: bytes = field(repr=False)

    @classmethod
    def make(cls, random: Random, nonces: bytes, machine: bytes, execution: bytes, number: int) -> "Offer":
        """Return a new one.

        Args:
            random: gives that many bytes of the host's kernel (getrandom).
            nonces: the host's and the guest's of the session that the seed is for, 32 bytes.
            machine: its UUID, 16 bytes.
            execution: its id, 16 bytes.
            number: the generation.

        Raises InputError for bytes of another size, from whichever of them.
        """
        fresh = random(FRESH_BYTES)
        sizes = [len(fresh), len(nonces), len(machine), len(execution)]
        if sizes != [FRESH_BYTES, 2 * NONCE_BYTES, _ID_BYTES, _ID_BYTES]:
            raise InputError(f"a seed is made of 64, 32, 16 and 16 bytes: {sizes} were found")
        info = LABEL + machine + execution + number.to_bytes(8, "big")
        return cls(machine, execution, number, hkdf(fresh, nonces, info, SEED_BYTES))

    def is_confirmed_by(self, number: int, untrusted_tag: bytes) -> bool:
        """Tell whether a confirmation is of this seed: only who has it can make the tag."""
        expected = confirmation(self.seed, self.machine, self.execution, self.generation)
        return number == self.generation and hmac.compare_digest(expected, untrusted_tag)
