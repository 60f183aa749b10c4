"""Takes the contracts out of a proven source, so that what is left is what runs.

    python tools/strip_contracts.py [--check]

Only whole statements and whole functions go: calls of contracts that stand alone with the comments above
them, predicates, imports of contracts, decorators. `Unfolding(p, e)` becomes `e`. A `ContractOnly` function
is what the proof assumes: an import of the real one takes its place. Everything else stays as it was written,
comments too. What then still speaks of a contract is an error: nothing may run that the proof saw otherwise.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROVEN = ROOT / "proof"
RUNNING = ROOT / "src" / "undercroft" / "vault"
MODULES = ("holdings.py", "core.py")
ASSUMED = "undercroft.vault.chain"
CONTRACTS = "nagini_contracts.contracts"

CUT = "\0 cut"
STATEMENTS = frozenset({"Requires", "Ensures", "Invariant", "Assert", "Fold", "Unfold"})


class StripError(Exception):
    """The source holds a contract where none can be taken out."""


def _calls(node: ast.AST, names: frozenset[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def _decorators(node: ast.AST) -> set[str]:
    listed = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return {name.id for name in listed if isinstance(name, ast.Name)}


class _Stripper(ast.NodeTransformer):
    """The same on the tree alone, without the text: the other way to the same program."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if _calls(node.value, STATEMENTS) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return (
            self.visit(node.args[1]) if _calls(node, frozenset({"Unfolding"})) else self.generic_visit(node)
        )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == CONTRACTS else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        names = _decorators(node)
        if "ContractOnly" in names:
            return ast.ImportFrom(ASSUMED, [ast.alias(node.name)], 0)
        if "Predicate" in names:
            return None
        node.decorator_list = [
            one for one in node.decorator_list if not (isinstance(one, ast.Name) and one.id == "Pure")
        ]
        return self.generic_visit(node)


def stripped_tree(source: str) -> ast.Module:
    """The program without contracts, by its tree alone; its imports stand first, as in the text."""
    tree = _Stripper().visit(ast.parse(source))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    others = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    tree.body = others[:1] + imports + others[1:]  # the docstring, the imports, all else
    return ast.fix_missing_locations(tree)


def _contract_names(tree: ast.Module) -> set[str]:
    return {
        name.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == CONTRACTS
        for name in node.names
    }


def _cut(lines: list[str], start: int, end: int) -> None:
    for number in range(start - 1, end):
        lines[number] = CUT


def strip(source: str) -> str:
    """The text of the program without contracts.

    Args:
        source: the proven source, as it was written.

    Raises:
        StripError: a contract would stay, or the text would be another program than the tree.
    """
    lines = source.splitlines()
    assumed: list[str] = []
    # From the last to the first, so that an inner call is replaced before the one around it.
    for node in sorted(ast.walk(ast.parse(source)), key=lambda one: -getattr(one, "lineno", 0)):
        if isinstance(node, ast.Expr) and _calls(node.value, STATEMENTS):
            _cut(lines, _with_comments(lines, node.lineno), node.end_lineno or node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == CONTRACTS:
            _cut(lines, node.lineno, (node.end_lineno or node.lineno) + 1)
        elif isinstance(node, ast.FunctionDef):
            assumed += _cut_function(lines, node)
        elif _calls(node, frozenset({"Unfolding"})):
            _replace_call(source, lines, node)
    text = "\n".join(line for line in lines if line != CUT) + "\n"
    if assumed:
        imports = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
        last = imports[-1].end_lineno or 0
        kept = text.splitlines(keepends=True)
        text = "".join([*kept[:last], f"from {ASSUMED} import {', '.join(sorted(assumed))}\n", *kept[last:]])
    _checked(source, text)
    return text


def _with_comments(lines: list[str], start: int) -> int:
    while lines[start - 2].lstrip().startswith("#"):
        start -= 1
    return start


def _cut_function(lines: list[str], node: ast.FunctionDef) -> list[str]:
    """Cuts a function that only the proof has, or a decorator; the name of one that is imported instead."""
    names = _decorators(node)
    first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
    if "Predicate" in names:
        _cut(lines, first, (node.end_lineno or node.lineno) + 1)
    elif "ContractOnly" in names:
        _cut(lines, first, (node.end_lineno or node.lineno) + 2)
        return [node.name]
    elif "Pure" in names:
        _cut(lines, first, node.lineno - 1)
    return []


def _replace_call(source: str, lines: list[str], node: ast.Call) -> None:
    start, end = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[start].encode()[: node.col_offset].decode()
    after = lines[end].encode()[node.end_col_offset or 0 :].decode()
    inner = ast.get_source_segment(source, node.args[1]) or ""
    _cut(lines, start + 1, end + 1)
    lines[start] = before + (f"({inner})" if "\n" in inner else inner) + after


def _checked(source: str, text: str) -> None:
    tree = ast.parse(text)
    left = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    left &= _contract_names(ast.parse(source))
    if left:
        raise StripError(f"contracts that cannot be taken out: {', '.join(sorted(left))}")
    if ast.dump(tree) != ast.dump(stripped_tree(source)):
        raise StripError("the text without contracts is not the program that the tree without them is")


def main(arguments: list[str]) -> int:
    """Writes what runs, or with --check says whether it is what was proven."""
    differ = 0
    for name in MODULES:
        text = strip((PROVEN / name).read_text(encoding="utf-8"))
        if "--check" not in arguments:
            (RUNNING / name).write_text(text, encoding="utf-8")
        elif (RUNNING / name).read_text(encoding="utf-8") != text:
            differ += 1
            sys.stderr.write(f"{RUNNING / name} is not {PROVEN / name}: python tools/strip_contracts.py\n")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
