"""Tables, chains and rules <-> netlink attributes, and the requests that make and delete each thing.

One thing is one request; `difference` puts them into a batch in the order that the kernel needs.
Source: include/uapi/linux/netfilter/nf_tables.h; nf_tables_newchain, nf_tables_newrule of Linux 6.18.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from undercroft.adapters.netlinkcodec import APPEND, CREATE, attribute, attributes, nested
from undercroft.adapters.nftables import fields, numbers
from undercroft.adapters.nftables.elements import Data, element_lists, key_lists
from undercroft.adapters.nftables.expressions import decode_expression, expression_attributes
from undercroft.adapters.nftables.fields import Fields, UnknownShapeError
from undercroft.adapters.nftables.sets import set_attributes
from undercroft.adapters.nftables.wire import Request
from undercroft.errors import InputError
from undercroft.firewall.kernel import Chain, Code, Hook, Rule, SetDefinition

MAX_COMMENT_BYTES = 128
_FILTER = "filter"
_HOOKS: Mapping[int, Hook] = MappingProxyType({number: hook for hook, number in numbers.HOOKS.items()})
_POLICIES: Mapping[int, Code] = MappingProxyType(
    {numbers.CODES[code]: code for code in (Code.ACCEPT, Code.DROP)}
)


def new_table(name: str, flags: int) -> Request:
    """Return the request that makes a table, or gives it these flags."""
    body = fields.text(numbers.TABLE_NAME, name) + fields.number(numbers.TABLE_FLAGS, flags)
    return Request(numbers.NEW_TABLE, CREATE, body, f"table {name!r}")


def get_table(name: str) -> Request:
    """Return the question for a table."""
    return Request(numbers.GET_TABLE, 0, fields.text(numbers.TABLE_NAME, name), f"table {name!r}")


def same_table(name: str) -> Request:
    """Return the request that changes nothing of a table that is there, and makes one that is not."""
    return Request(numbers.NEW_TABLE, CREATE, fields.text(numbers.TABLE_NAME, name), f"table {name!r}")


def delete_table(name: str) -> Request:
    """Return the request that deletes a table with all that is in it."""
    return Request(numbers.DELETE_TABLE, 0, fields.text(numbers.TABLE_NAME, name), f"table {name!r}")


def new_chain(table: str, chain: Chain) -> Request:
    """Return the request that makes a chain without rules, or gives a base chain its policy.

    Raises InputError for a policy that a base chain cannot have, and for a chain that one rule must make.
    """
    if chain.bound:
        raise InputError(f"{_chain(table, chain.name)} is bound to one rule; make it with a name of its own")
    body = fields.text(numbers.CHAIN_TABLE, table) + fields.text(numbers.CHAIN_NAME, chain.name)
    if chain.hook is not None:
        if chain.policy not in _POLICIES.values():
            raise InputError(
                f"chain {chain.name!r} of {table!r}: policy {chain.policy}; accept and drop can be"
            )
        priority = attribute(numbers.HOOK_PRIORITY, chain.priority.to_bytes(4, "big", signed=True))
        hook = fields.number(numbers.HOOK_NUMBER, numbers.HOOKS[chain.hook]) + priority
        body += nested(numbers.CHAIN_HOOK, hook) + fields.text(numbers.CHAIN_TYPE, _FILTER)
        body += fields.number(numbers.CHAIN_POLICY, numbers.CODES[chain.policy])
    return Request(numbers.NEW_CHAIN, CREATE, body, _chain(table, chain.name))


def delete_chain(table: str, chain: str) -> Request:
    """Return the request that deletes a chain, which has no rules and which no rule names."""
    body = fields.text(numbers.CHAIN_TABLE, table) + fields.text(numbers.CHAIN_NAME, chain)
    return Request(numbers.DELETE_CHAIN, 0, body, _chain(table, chain))


def new_rules(table: str, chain: Chain) -> Iterator[Request]:
    """Yield the requests that put a chain's rules at its end, in order.

    Raises InputError for a register or number that there is not, or a comment that is too long.
    """
    head = fields.text(numbers.RULE_TABLE, table) + fields.text(numbers.RULE_CHAIN, chain.name)
    for number, rule in enumerate(chain.rules, start=1):
        what = f"rule {number} of {_chain(table, chain.name)}"
        yield Request(numbers.NEW_RULE, CREATE | APPEND, head + rule_attributes(rule), what)


def delete_rules(table: str, chain: str) -> Request:
    """Return the request that deletes all rules of a chain."""
    body = fields.text(numbers.RULE_TABLE, table) + fields.text(numbers.RULE_CHAIN, chain)
    return Request(numbers.DELETE_RULE, 0, body, f"rules of {_chain(table, chain)}")


def new_set(table: str, definition: SetDefinition, identity: int) -> Request:
    """Return the request that makes a set; `identity` is its number in the batch. Raises InputError."""
    body = fields.text(numbers.SET_TABLE, table) + set_attributes(definition, identity)
    return Request(numbers.NEW_SET, CREATE, body, _set(table, definition.name))


def delete_set(table: str, name: str) -> Request:
    """Return the request that deletes a set, which no rule names."""
    body = fields.text(numbers.SET_TABLE, table) + fields.text(numbers.SET_NAME, name)
    return Request(numbers.DELETE_SET, 0, body, _set(table, name))


def new_elements(
    table: str, definition: SetDefinition, elements: Mapping[bytes, Data], timeout_ms: int = 0
) -> Iterator[Request]:
    """Yield the requests that put elements into a set, for a time where it is not 0.

    Raises InputError for one that is not of its shape.
    """
    head = elements_head(table, definition.name)
    for listed in element_lists(definition, elements, timeout_ms):
        yield Request(numbers.NEW_ELEMENT, CREATE, head + listed, _set(table, definition.name))


def delete_elements(table: str, definition: SetDefinition, keys: Iterable[bytes]) -> Iterator[Request]:
    """Yield the requests that take elements out of a set. Raises InputError for a key of another length."""
    head = elements_head(table, definition.name)
    for listed in key_lists(definition, keys):
        yield Request(numbers.DELETE_ELEMENT, 0, head + listed, _set(table, definition.name))


def elements_head(table: str, name: str) -> bytes:
    """Return the attributes that name a set in messages about elements."""
    return fields.text(numbers.ELEMENTS_TABLE, table) + fields.text(numbers.ELEMENTS_SET, name)


def rule_attributes(rule: Rule) -> bytes:
    """Return a rule's expressions and comment. Raises InputError."""
    expressions = [
        nested(numbers.LIST_ELEMENT, expression_attributes(expression)) for expression in rule.expressions
    ]
    return nested(numbers.RULE_EXPRESSIONS, *expressions) + _userdata(rule.comment)


def decode_rule(data: bytes) -> tuple[str, Rule]:
    """Return a rule and the name of its chain. Raises OperationError for attributes that no kernel sends."""
    given = Fields(data)
    listed = given.raw(numbers.RULE_EXPRESSIONS) if given.has(numbers.RULE_EXPRESSIONS) else b""
    expressions = tuple(decode_expression(expression) for _, expression in attributes(listed))
    comment = given.raw(numbers.RULE_USERDATA) if given.has(numbers.RULE_USERDATA) else b""
    return given.text(numbers.RULE_CHAIN), Rule(expressions, _comment(comment))


def decode_chain(data: bytes) -> tuple[str, Chain]:
    """Return the table's name and a chain without its rules.

    Raises OperationError for a chain that no value stands for; flags alone are named in its `unknown`.
    """
    given = Fields(data)
    table, name = given.text(numbers.CHAIN_TABLE), given.text(numbers.CHAIN_NAME)
    flags = given.number(numbers.CHAIN_FLAGS) if given.has(numbers.CHAIN_FLAGS) else 0
    bound = bool(flags & numbers.CHAIN_BOUND)
    flags &= ~(numbers.CHAIN_BASE | numbers.CHAIN_BOUND)
    unknown = (f"flags {flags:#x}",) if flags else ()
    if not given.has(numbers.CHAIN_HOOK):
        return table, Chain(name, (), bound=bound, unknown=unknown)
    place = Fields(given.raw(numbers.CHAIN_HOOK))
    hook = fields.known(_HOOKS, place.number(numbers.HOOK_NUMBER))
    priority = int.from_bytes(place.raw(numbers.HOOK_PRIORITY), "big", signed=True)
    policy = fields.known(_POLICIES, given.number(numbers.CHAIN_POLICY))
    place.finish()
    if (kind := given.text(numbers.CHAIN_TYPE)) != _FILTER:
        raise UnknownShapeError(f"chain {name!r} of type {kind!r}")
    return table, Chain(name, (), hook, priority, policy, bound, unknown)


def _userdata(comment: str) -> bytes:
    if not comment:
        return b""
    encoded = comment.encode() + b"\0"
    if len(encoded) > MAX_COMMENT_BYTES:
        raise InputError(
            f"comment {comment[:20]!r}... has {len(encoded) - 1} bytes; {MAX_COMMENT_BYTES - 1} can be kept"
        )
    return attribute(numbers.RULE_USERDATA, bytes([numbers.USERDATA_COMMENT, len(encoded)]) + encoded)


def _comment(untrusted_userdata: bytes) -> str:
    """Return the comment in what some program left for itself, "" where there is none."""
    offset = 0
    while offset + 2 <= len(untrusted_userdata):
        kind, size = untrusted_userdata[offset], untrusted_userdata[offset + 1]
        value = untrusted_userdata[offset + 2 : offset + 2 + size]
        if kind == numbers.USERDATA_COMMENT:
            return value.rstrip(b"\0").decode(errors="backslashreplace")
        offset += 2 + size
    return ""


def _chain(table: str, chain: str) -> str:
    return f"chain {chain!r} of table {table!r}"


def _set(table: str, name: str) -> str:
    return f"set {name!r} of table {table!r}"
