"""Untrusted YAML documents of mappings, lists and texts, read within limits.

Every scalar stays a text: a version "1.10" is no number. Aliases, tags and second documents are refused, so
that no small text unfolds into a large value, and nothing is constructed but dict, list and str.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from undercroft.advisories.feeds.bounded import decode_text
from undercroft.errors import InputError
from undercroft.model.schema import Json

if TYPE_CHECKING:
    import yaml

MAX_DEPTH = 16
MAX_NODES = 2_000_000


def load_yaml(data: bytes, what: str) -> Json:
    """Return the document in `data`. Raises InputError."""
    import yaml  # noqa: PLC0415 - costs 15 ms, for one old format

    text = decode_text(data, what)
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return _document(yaml.parse(text, Loader=loader), what)
    except yaml.YAMLError as error:
        problem = str(error).replace("\n", " ")[:200]
        raise InputError(f"{what}: no valid YAML: {problem}") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{what}: no valid YAML: {error}") from error


def _document(events: "Iterator[yaml.Event]", what: str) -> Json:
    """Return the one document that the events tell, built without recursion."""
    import yaml  # noqa: PLC0415 - see above

    found: list[Json] = []
    open_nodes: list[Any] = []
    keys: list[str | None] = []
    for number, event in enumerate(events):
        if number > MAX_NODES:
            raise InputError(f"{what}: YAML of more than {MAX_NODES} nodes")
        if (
            isinstance(event, yaml.AliasEvent)
            or getattr(event, "anchor", None)
            or getattr(event, "tag", None)
        ):
            raise InputError(f"{what}: YAML with anchors, aliases or tags is not read")
        if isinstance(event, yaml.ScalarEvent):
            _put(event.value, found, open_nodes, keys, what)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            node: Json = {} if isinstance(event, yaml.MappingStartEvent) else []
            _put(node, found, open_nodes, keys, what)
            open_nodes.append(node)
            keys.append(None)
            if len(open_nodes) > MAX_DEPTH:
                raise InputError(f"{what}: YAML nested deeper than {MAX_DEPTH}")
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            open_nodes.pop()
            keys.pop()
    if len(found) != 1:
        raise InputError(f"{what}: {len(found)} YAML documents, expected one")
    return found[0]


def _put(value: Json, found: list[Json], open_nodes: list[Any], keys: list[str | None], what: str) -> None:
    """Add a value to the innermost open node; in a mapping, keys and values take turns."""
    if not open_nodes:
        found.append(value)
    elif isinstance(open_nodes[-1], list):
        open_nodes[-1].append(value)
    elif keys[-1] is None:
        if not isinstance(value, str) or value in open_nodes[-1]:
            raise InputError(f"{what}: a YAML key is no text, or stands twice")
        keys[-1] = value
    else:
        open_nodes[-1][keys[-1]] = value
        keys[-1] = None
