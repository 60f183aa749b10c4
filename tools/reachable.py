"""Marks a proven program so that a proof which holds for want of any case is found.

A contract whose conditions contradict each other is proven of whatever it stands before. So `Assert(False)`
is put where a method begins, and in a second program where its paths end: before each `return`, at the end of
each loop's body and of the method. The verifier has to find fault with each of them.
"""

import ast

_CONTRACTS = frozenset({"Requires", "Ensures", "Invariant"})


def marked(program: str, *, ends: bool) -> tuple[str, set[int]]:
    """The program with its marks.

    Args:
        program: as the verifier takes it, in one module.
        ends: whether the ends of paths are marked, else the beginnings of methods.

    Returns:
        The program, and the numbers of the lines (from 1) with a mark.
    """
    tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not _only_for_proofs(node):
            begin = _first(node.body)
            runs = node.body[begin:]
            node.body = [*node.body[:begin], *(_ended(runs) if ends else [_mark(), *runs])]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and not any(one.name == "Assert" for one in node.names):
            node.names.append(ast.alias("Assert"))
    text = ast.unparse(ast.fix_missing_locations(tree))
    lines = enumerate(text.splitlines(), 1)
    return text, {number for number, line in lines if line.strip() == "Assert(False)"}


def _only_for_proofs(node: ast.FunctionDef) -> bool:
    return bool(node.decorator_list)  # pure functions, predicates, and what is assumed


def _first(body: list[ast.stmt]) -> int:
    """Where the first statement stands that is neither the docstring nor a contract."""
    for at, one in enumerate(body):
        call = one.value if isinstance(one, ast.Expr) else None
        named = call.func if isinstance(call, ast.Call) else None
        contract = isinstance(named, ast.Name) and named.id in _CONTRACTS
        if not (contract or isinstance(call, ast.Constant)):
            return at
    return len(body)


def _mark() -> ast.stmt:
    return ast.parse("Assert(False)").body[0]


def _ended(body: list[ast.stmt]) -> list[ast.stmt]:
    """The same statements with a mark wherever a path through them ends."""
    made: list[ast.stmt] = []
    for one in body:
        if isinstance(one, ast.Return):
            made.append(_mark())
        elif isinstance(one, ast.While):
            one.body = _ended(one.body)
        elif isinstance(one, ast.If):
            one.body, one.orelse = _inner(one.body), _inner(one.orelse)
        made.append(one)
    return made if isinstance(body[-1], ast.Return) else [*made, _mark()]


def _inner(body: list[ast.stmt]) -> list[ast.stmt]:
    """What stands under a condition: only its returns and loops end a path, all else goes on after it."""
    if not body:
        return body
    made = _ended(body)
    return made if isinstance(body[-1], ast.Return) else made[:-1]
