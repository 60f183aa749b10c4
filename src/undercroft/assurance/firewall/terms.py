"""Bytes as Z3 terms: what registers hold, and how they are joined and compared.

The commonest terms are built below Z3's Python classes: with a chain for each class of machines a proof makes
tens of thousands of them, and the classes' own checks would take most of its time.

Z3 holds some 18 MiB for as long as there is any term: constants are made where they are used first, and
`give_back` lets them go.
"""

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import z3

Bits: TypeAlias = z3.BitVecRef
Truth: TypeAlias = z3.BoolRef
Byte: TypeAlias = z3.BitVecRef
Bytes: TypeAlias = tuple[z3.BitVecRef, ...]


class _Kept(z3.AstRef):  # type: ignore[misc]
    """A constant that is the same object for ever, and a term of Z3's for as long as it is used."""

    def __init__(self, make: Callable[[], z3.AstRef]) -> None:
        self._make = make
        self.term: z3.AstRef | None = None

    def __del__(self) -> None:
        """Do nothing: the term goes by itself."""

    @property
    def ast(self) -> z3.Ast:
        """Z3's own term."""
        if self.term is None:
            self.term = self._make()
        return self.term.ast

    @property
    def ctx(self) -> z3.Context:
        """What Z3 keeps terms in."""
        return z3.main_ctx()


class _KeptTruth(_Kept, z3.BoolRef):  # type: ignore[misc]
    """A truth."""


class _KeptByte(_Kept, z3.BitVecNumRef):  # type: ignore[misc]
    """A byte."""


TRUE: Truth = _KeptTruth(partial(z3.BoolVal, True))
FALSE: Truth = _KeptTruth(partial(z3.BoolVal, False))
_CONSTANTS: Bytes = tuple(_KeptByte(partial(z3.BitVecVal, value, 8)) for value in range(256))
ZERO: Byte = _CONSTANTS[0]


def give_back() -> None:
    """Let Z3's memory go, where nobody has a term any more. Not while another thread makes any."""
    if z3.z3._main_ctx is None:  # noqa: SLF001 - Z3 makes it where there is none, and has no word for its end
        return
    context = weakref.ref(z3.main_ctx())
    for kept in (TRUE, FALSE, *_CONSTANTS):
        kept.term = None
    z3.z3._main_ctx = None  # noqa: SLF001
    held = context()
    if held is not None:
        z3.z3._main_ctx = held  # noqa: SLF001


def constant(data: bytes) -> Bytes:
    """Return bytes as terms."""
    return tuple(_CONSTANTS[value] for value in data)


def joined(data: Sequence[Byte]) -> Bits:
    """Return bytes as one number, the first being the highest.

    Args:
        data: at least one byte.
    """
    return data[0] if len(data) == 1 else z3.Concat(*data)


def number(data: bytes) -> Bits:
    """Return constant bytes as one number, the first being the highest."""
    return z3.BitVecVal(int.from_bytes(data, "big"), 8 * len(data))


def same(one: Bits, other: Bits) -> Truth:
    """Return whether two numbers of one width are equal."""
    context = one.ctx
    return z3.BoolRef(z3.Z3_mk_eq(context.ref(), one.ast, other.ast), context)


def equal(data: Sequence[Byte], value: bytes) -> Truth:
    """Return whether bytes are these."""
    return same(joined(data), number(value))


def split(bits: Bits, length: int) -> Bytes:
    """Return a number of `8 * length` bits as bytes, the highest first."""
    top = 8 * length - 1
    return tuple(z3.Extract(top - 8 * place, top - 8 * place - 7, bits) for place in range(length))


def negated(part: Truth) -> Truth:
    """Return the negation."""
    if part is TRUE:
        return FALSE
    if part is FALSE:
        return TRUE
    context = part.ctx
    return z3.BoolRef(z3.Z3_mk_not(context.ref(), part.ast), context)


def both(*parts: Truth) -> Truth:
    """Return the conjunction, without what is constantly true."""
    kept = [part for part in parts if part is not TRUE]
    if len(kept) < 2:
        return kept[0] if kept else TRUE
    if any(part is FALSE for part in kept):
        return FALSE
    context = kept[0].ctx
    return z3.BoolRef(z3.Z3_mk_and(context.ref(), len(kept), _array(kept)), context)


def either(parts: Sequence[Truth]) -> Truth:
    """Return the disjunction, without what is constantly false."""
    kept = [part for part in parts if part is not FALSE]
    if len(kept) < 2:
        return kept[0] if kept else FALSE
    if any(part is TRUE for part in kept):
        return TRUE
    context = kept[0].ctx
    return z3.BoolRef(z3.Z3_mk_or(context.ref(), len(kept), _array(kept)), context)


def chosen(condition: Truth, yes: Sequence[Byte], no: Sequence[Byte]) -> Bytes:
    """Return `yes` where the condition holds, else `no`, byte by byte."""
    return tuple(
        one if one is other else z3.If(condition, one, other) for one, other in zip(yes, no, strict=True)
    )


def _array(parts: Sequence[z3.AstRef]) -> z3.Ast:
    return (z3.Ast * len(parts))(*(part.ast for part in parts))


def bit_solver(timeout_ms: int) -> z3.Solver:
    """Return a solver for formulas over bytes and truths alone: made of bits at once, the fastest here."""
    solver = z3.Then("simplify", "propagate-values", "solve-eqs", "simplify", "bit-blast", "sat").solver()
    solver.set("timeout", timeout_ms)
    return solver
