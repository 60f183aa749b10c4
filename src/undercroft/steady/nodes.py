"""YAML text as a tree of nodes that know where they stand; no object is made, nothing is expanded.

Follows YAML 1.1 as PyYAML's parser reads it, without tags, anchors, aliases and second documents: a policy
needs none, and aliases are how a small file becomes a large tree. Size, depth and number of nodes are
limited, so that reading takes time and memory in proportion to the limits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 100_000

_LAYOUT = {ord("\t"): " ", ord("\r"): " "}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: file name, line and column, both from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """Return it as compilers write it: "policy.yaml:3:5"."""
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def source(self) -> str:
        """File and line: "policy.yaml:3"."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a policy."""

    place: Place
    text: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text; "" for nothing."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    place: Place
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys with values, in their order; a key may come twice."""

    place: Place
    pairs: tuple[tuple["Node", "Node"], ...]


Node = Scalar | Sequence | Mapping


class UnreadableError(Exception):
    """Reading ends here, because of one problem; caught where the file was opened for reading."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read(name: str, data: bytes) -> Node | None:
    """Return the one document of a file, None where it is empty or holds comments only.

    Args:
        name: what the file is called in messages.
        data: its bytes, of any size.

    Raises:
        UnreadableError: it is no YAML, larger than the limits, or uses what a policy may not use.
    """
    text = _text(name, data)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(name).document(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name, 1, 1)
        raise UnreadableError(Problem(place, f"no YAML: {error.problem or error.context}")) from error
    except yaml.YAMLError as error:
        raise UnreadableError(Problem(Place(name, 1, 1), "no YAML: a character that YAML forbids")) from error


def _text(name: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        found = f"{len(data):,} bytes; at most {MAX_BYTES:,} are possible"
        raise UnreadableError(Problem(Place(name, 1, 1), found))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        found = f"byte {data[error.start]:#04x}, which is no UTF-8; save the file as UTF-8"
        raise UnreadableError(Problem(Place(name, line, column), found)) from error
    for number, line_text in enumerate(text.split("\n"), 1):
        if line_text.translate(_LAYOUT).isprintable():
            continue
        for column, character in enumerate(line_text, 1):
            if not character.isprintable() and ord(character) not in _LAYOUT:
                found = f"the invisible character U+{ord(character):04X}; remove it"
                raise UnreadableError(Problem(Place(name, number, column), found))
    return text


class _Builder:
    """Turns the parser's events into nodes, without recursion deeper than `MAX_DEPTH`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes = 0

    def document(self, events: Iterator[Any]) -> Node | None:
        """Return the document's node. Raises UnreadableError and PyYAML's errors."""
        node: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refused(event, "a second document; one file is one document: remove '---'")
            elif isinstance(event, yaml.NodeEvent):
                node = self._node(event, events, 0)
        return None if isinstance(node, Scalar) and not node.text else node

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        place = self._place(event)
        self._check(event, depth)
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(place, "" if _is_null(event) else str(event.value))
        if isinstance(event, yaml.SequenceStartEvent):
            items = list(self._until(yaml.SequenceEndEvent, events, depth))
            return Sequence(place, tuple(items))
        nodes = list(self._until(yaml.MappingEndEvent, events, depth))
        return Mapping(place, tuple(zip(nodes[::2], nodes[1::2], strict=True)))

    def _until(self, end: type[Any], events: Iterator[Any], depth: int) -> Iterator[Node]:
        for event in events:
            if isinstance(event, end):
                return
            yield self._node(event, events, depth + 1)

    def _check(self, event: Any, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refused(event, f"more than {MAX_NODES:,} values; split the policy")
        if depth > MAX_DEPTH:
            raise self._refused(event, f"nested deeper than {MAX_DEPTH}; a policy needs five")
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise self._refused(event, "an anchor or alias (& or *); write the value out, or quote the text")
        if event.tag and event.tag != "!":  # "!" is what a quoted text has in some versions
            raise self._refused(event, f"the tag {event.tag[:60]!r}; a policy has no tags, quote the text")

    def _place(self, event: Any) -> Place:
        return Place(self._name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _refused(self, event: Any, found: str) -> UnreadableError:
        return UnreadableError(Problem(self._place(event), f"found {found}"))


def _is_null(event: Any) -> bool:
    return bool(event.implicit[0]) and event.value in {"~", "null", "Null", "NULL"}
