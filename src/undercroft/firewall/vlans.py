"""Who may use which VLAN: chains that let a frame with one granted tag go where it would go without.

A grant is a pair of a class and an id in one set. The source's class is the packet's mark; the target's is
what its port has. All chains behind these look at what is in the frame (`CONTENT`), not at the tag.

No chain is there where nothing is granted. Only frames with a tag pay for the look-ups.
"""

from undercroft.firewall import headers as h
from undercroft.firewall import marks
from undercroft.firewall.classes import Classes
from undercroft.firewall.expressions import CONTENT, MARK, OUT, Expressions, equal, goto, looked_up, rule
from undercroft.firewall.kernel import Bitwise, Chain, Lookup, Rule, SetDefinition
from undercroft.firewall.policy import FirewallPolicy

SET = "vlans"
_DENY = goto("deny")
_SMALLEST_SIZE = 64


def vlan_sets(policy: FirewallPolicy, classes: Classes) -> tuple[SetDefinition, ...]:
    """Return the set of grants, with room for twice of what is in it; none where nothing is granted."""
    if not policy.vlans:
        return ()
    size = 1 << (2 * len(vlan_elements(policy, classes)) + 1).bit_length()
    return (SetDefinition(SET, ("mark", "inet_service"), size=max(_SMALLEST_SIZE, size)),)


def vlan_elements(policy: FirewallPolicy, classes: Classes) -> dict[bytes, None]:
    """Return the keys: the mark of a class, and an id."""
    return {
        marks.data(marks.of_class(number)) + one.to_bytes(2, "big") + bytes(2): None
        for number, labels in classes.ordered()
        for one in policy.vlans_of(labels)
    }


def if_granted(policy: FirewallPolicy, condition: Expressions, chain: str) -> tuple[Rule, ...]:
    """Return a rule that sends frames with a tag on, where it is granted; none where nothing is."""
    if not policy.vlans:
        return ()
    return (rule(equal(h.ETHER_TYPE, h.VLAN_TAG), condition, goto(chain)),)


def granted_to_source() -> Expressions:
    """Go on where the class that the packet's mark names may use the VLAN."""
    return (MARK.load(0), *_id(1), Lookup(SET, 0))


def granted_to_target() -> Expressions:
    """Go on where the class of the port that the frame leaves by may use the VLAN."""
    expressions, register = looked_up("classes", OUT)
    return (*expressions, *_id(register + 1), Lookup(SET, register))


def inside(name: str, chain4: str, chain6: str, chain_arp: str) -> Chain:
    """Return a chain that goes by what is in a frame; a second tag, and all else, is denied."""
    rules = (
        rule(equal(CONTENT, h.IPV4), goto(chain4)),
        rule(equal(CONTENT, h.IPV6), goto(chain6)),
        rule(equal(CONTENT, h.ARP), goto(chain_arp)),
        rule(_DENY),
    )
    return Chain(name, rules)


def _id(register: int) -> Expressions:
    return (h.TAG_CONTROL.load(register), Bitwise(register, register, h.VLAN_ID, bytes(2)))
