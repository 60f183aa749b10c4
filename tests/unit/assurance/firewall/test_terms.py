"""Z3's memory goes where nobody has a term, and terms are as before where they are made again."""

import subprocess
import sys

import z3

from undercroft.assurance.firewall import terms
from undercroft.assurance.firewall.terms import FALSE, TRUE, ZERO, both, constant, equal, give_back, negated

ALONE = """
import z3
from undercroft.assurance.firewall.terms import bit_solver, constant, equal, give_back

def proven():
    solver = bit_solver(10_000)
    solver.add(equal(constant(b"no"), b"on"))
    return solver.check() == z3.unsat

for _ in range(2):
    print(proven(), z3.Z3_get_estimated_alloc_size() >> 20 > 0)
    give_back()
    print(z3.Z3_get_estimated_alloc_size() >> 20 > 0)
z3.main_ctx = None
give_back()  # makes nothing in order to let it go
"""


def is_always(condition: terms.Truth) -> bool:
    solver = terms.bit_solver(10_000)
    solver.add(negated(condition))
    return bool(solver.check() == z3.unsat)


def test_memory_is_let_go_where_nobody_has_a_term() -> None:
    told = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    assert told.stdout.split("\n") == ["True True", "False"] * 2 + [""]
    assert told.stderr == ""


def test_constants_are_the_same_things_afterwards() -> None:
    for _ in range(2):
        assert is_always(both(TRUE, equal(constant(b"\x01\x00"), b"\x01\x00")))
        assert not is_always(equal(constant(b"\x01\x00"), b"\x00\x01"))
        give_back()
    assert constant(b"\x00")[0] is ZERO
    assert negated(TRUE) is FALSE


def test_a_term_that_somebody_has_stays_and_goes_with_new_ones() -> None:
    mine = z3.BitVec("mine", 8)
    give_back()
    assert is_always(equal([mine & ZERO], b"\x00"))
