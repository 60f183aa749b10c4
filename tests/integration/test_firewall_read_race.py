"""A reading that names a generation has all that this generation brought, also where it is being made."""

import threading
from dataclasses import replace

from filterproofs import ruleset
from netns import in_own_network

from undercroft.adapters.nftables import Nftables, codec
from undercroft.adapters.nftables.wire import Channel, Request
from undercroft.firewall.kernel import Chain, Code, Ruleset, SetDefinition, Table

ROUNDS = 8
LARGE = 100_000
NOISE = SetDefinition("noise", ("ipv4_addr",), size=1 << 17)


def forward(table: Ruleset) -> Chain:
    return next(chain for chain in table.table.chains if chain.name == "forward")


@in_own_network
def test_a_reading_while_a_large_transaction_ends_is_of_the_generation_that_it_names() -> None:
    """The kernel raises the number first, and goes through all parts of the transaction after that.

    Without waiting for its end, rounds read a chain's policy of before under the new number, not all of them.
    """
    honest = ruleset(3)
    elements = {number.to_bytes(4, "big"): None for number in range(1, LARGE + 1)}
    with Nftables() as kernel:
        kernel.replace(honest)
        kernel.replace(Ruleset(Table("noise", (NOISE,), ()), {"noise": {}}))
        loads = (
            list(codec.new_elements("noise", NOISE, elements)),
            list(codec.delete_elements("noise", NOISE, elements)),
        )
        for number in range(ROUNDS):
            policy = (Code.ACCEPT, Code.DROP)[number % 2]
            last = codec.new_chain("undercroft", replace(forward(honest), policy=policy))
            done, read = threading.Event(), list[tuple[int, Code]]()

            def change(load: int = number % 2, last: Request = last, done: threading.Event = done) -> None:
                channel = Channel()
                channel.commit([*loads[load], last])
                channel.close()
                done.set()

            changing = threading.Thread(target=change)
            changing.start()
            while not done.is_set():
                found = kernel.read("undercroft", ())
                read.append((found.generation, forward(found).policy))
            changing.join()
            made = kernel.generation()
            assert all(seen is policy for generation, seen in read if generation == made)
