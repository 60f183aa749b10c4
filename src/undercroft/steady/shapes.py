"""What a node of a policy has to look like; every mistake is noted with its place, and reading goes on.

A shape is a function from a node to a value, or to None after it has noted what is wrong. Whoever reads
keeps nothing once a mistake was noted, so a None never becomes part of a policy.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar

from undercroft.errors import InputError
from undercroft.steady import durations, nodes
from undercroft.steady.nodes import Node, Place, Problem

MAX_TEXT_CHARS = 1000
_SHOWN_CHARS = 60

Value = TypeVar("Value")
Choice = TypeVar("Choice", bound=StrEnum)
Shape = Callable[[Node], Value | None]


class Checker:
    """Reads nodes and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def note(self, place: Place, text: str) -> None:
        """Note one mistake."""
        self.problems.append(Problem(place, text))

    def mapping(
        self,
        node: Node,
        what: str,
        shapes: Mapping[str, Callable[[Node, Place], None]],
        required: Sequence[str] = (),
    ) -> None:
        """Hand each value to the function of its key.

        Args:
            node: anything.
            what: what it is, for messages: "the policy", "rules[2].match".
            shapes: what is called with a value and the place of its key.
            required: keys that have to be there.
        """
        if not isinstance(node, nodes.Mapping):
            keys = ", ".join(shapes)
            self.note(node.place, f"{what}: found {_found(node)}; keys are possible: {keys}")
            return
        seen: dict[str, Place] = {}
        for key, value in node.pairs:
            name = key.text if isinstance(key, nodes.Scalar) else ""
            if name in seen:
                self.note(key.place, f"{what}: {name} stands twice, first at {seen[name]}; keep one")
            elif name in shapes:
                seen[name] = key.place
                shapes[name](value, key.place)
            else:
                self.note(key.place, f"{what}: found the key {_found(key)}; {possible(name, list(shapes))}")
        for name in required:
            if name not in seen:
                self.note(node.place, f"{what}: {name} is missing")

    def sequence(self, node: Node, what: str) -> Sequence[Node]:
        """Return the items of a list, none after a mistake."""
        if isinstance(node, nodes.Sequence):
            return node.items
        self.note(node.place, f"{what}: found {_found(node)}; a list is possible")
        return ()

    def text(self, node: Node, what: str, possible: str = "a text") -> str | None:
        """Return a text that is not empty."""
        if not isinstance(node, nodes.Scalar) or not node.text.strip():
            self.note(node.place, f"{what}: found {_found(node)}; {possible} is possible")
            return None
        if len(node.text) > MAX_TEXT_CHARS:
            self.note(node.place, f"{what}: found {len(node.text)} characters; at most {MAX_TEXT_CHARS}")
            return None
        return node.text

    def texts(self, node: Node, what: str, possible: str = "a text, or a list of texts") -> tuple[str, ...]:
        """Return one text or a list of them."""
        items = node.items if isinstance(node, nodes.Sequence) else (node,)
        if not items:
            self.note(node.place, f"{what}: found an empty list; {possible} is possible")
        return tuple(text for item in items if (text := self.text(item, what, possible)))

    def choice(self, node: Node, what: str, choices: type[Choice]) -> Choice | None:
        """Return one of the words of an enumeration."""
        name = node.text if isinstance(node, nodes.Scalar) else ""
        for member in choices:
            if member.value == name:
                return member
        self.note(
            node.place, f"{what}: found {_found(node)}; {possible(name, [item.value for item in choices])}"
        )
        return None

    def whole_number(self, node: Node, what: str, highest: int) -> int | None:
        """Return a number from 0 to `highest`."""
        text = node.text if isinstance(node, nodes.Scalar) else ""
        if text.isascii() and text.isdigit() and len(text) <= len(str(highest)) and int(text) <= highest:
            return int(text)
        self.note(node.place, f"{what}: found {_found(node)}; a whole number from 0 to {highest} is possible")
        return None

    def duration(self, node: Node, what: str) -> timedelta | None:
        """Return a span of time."""
        try:
            return durations.parse(node.text if isinstance(node, nodes.Scalar) else "")
        except InputError as error:
            self.note(node.place, f"{what}: found {_found(node)}; {error}")
            return None

    def day(self, node: Node, what: str, last: date) -> date | None:
        """Return a day up to `last`."""
        text = node.text if isinstance(node, nodes.Scalar) else ""
        try:
            day = date.fromisoformat(text)
        except ValueError:
            day = None
        if day is None or day.isoformat() != text:
            self.note(node.place, f"{what}: found {_found(node)}; a day is possible, such as {last}")
            return None
        if day > last:
            self.note(node.place, f"{what}: found {day}, more than a year away; at most {last} is possible")
            return None
        return day


def possible(name: str, choices: Sequence[str]) -> str:
    """Return what could have stood there, the likeliest first."""
    close = get_close_matches(name, choices, 1) if name else []
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}possible: {', '.join(choices)}"


def _found(node: Node) -> str:
    match node:
        case nodes.Mapping():
            return "a mapping"
        case nodes.Sequence():
            return "a list"
        case nodes.Scalar(text=""):
            return "nothing"
        case nodes.Scalar(text=text):
            return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "...")
