"""Proof that what the kernel filters is what the policy says. No I/O.

It takes the rules, maps and sets as they were read back from the kernel (`firewall.kernel.Ruleset`), the
policy and the fleet, and gives a `Certificate`, or a `Counterexample` with a packet that is treated
otherwise. `symbolic` gives the bytecode its meaning for every packet, `meaning` says what the policy wants,
without the compiler; `proof` shows that they are equal; `surroundings` judges what could bypass both.
Modules that need Z3 are imported by whoever proves, never by this package.
"""
