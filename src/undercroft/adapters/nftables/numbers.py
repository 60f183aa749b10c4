"""Numbers of the kernel's interface, under the names that it gives them (without NFT_, NFTA_).

Source: include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h of Linux 6.18; names of types of keys:
nftables 1.0.6, include/datatype.h.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from undercroft.firewall.kernel import Base, Code, Hook, Key, Operator

SUBSYSTEM: Final = 10 << 8
BATCH_BEGIN, BATCH_END = 16, 17
BATCH_GENERATION = 1
GROUP_NFTABLES = 7

(
    NEW_TABLE,
    GET_TABLE,
    DELETE_TABLE,
    NEW_CHAIN,
    GET_CHAIN,
    DELETE_CHAIN,
    NEW_RULE,
    GET_RULE,
    DELETE_RULE,
    NEW_SET,
    GET_SET,
    DELETE_SET,
    NEW_ELEMENT,
    GET_ELEMENT,
    DELETE_ELEMENT,
    NEW_GENERATION,
    GET_GENERATION,
) = range(17)

BRIDGE = 7
FAMILIES: Mapping[int, str] = MappingProxyType(
    {1: "inet", 2: "ip", 3: "arp", 5: "netdev", BRIDGE: "bridge", 10: "ip6"}
)

LIST_ELEMENT = 1
TABLE_NAME, TABLE_FLAGS = 1, 2
GENERATION_ID, GENERATION_PROCESS_ID, GENERATION_PROCESS_NAME = 1, 2, 3

CHAIN_TABLE, CHAIN_HANDLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, _, CHAIN_TYPE = range(1, 8)
CHAIN_FLAGS = 10
CHAIN_BASE, CHAIN_BOUND = 1, 4
HOOK_NUMBER, HOOK_PRIORITY = 1, 2

RULE_TABLE, RULE_CHAIN, _, RULE_EXPRESSIONS, _, _, RULE_USERDATA = range(1, 8)
USERDATA_COMMENT = 0
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2

(
    SET_TABLE,
    SET_NAME,
    SET_FLAGS,
    SET_KEY_TYPE,
    SET_KEY_LENGTH,
    SET_DATA_TYPE,
    SET_DATA_LENGTH,
    SET_POLICY,
    SET_DESCRIPTION,
    SET_ID,
    SET_TIMEOUT,
    SET_COLLECTION_INTERVAL,
    SET_USERDATA,
    SET_PAD,
    SET_OBJECT_TYPE,
    SET_HANDLE,
    SET_EXPRESSION,
    SET_EXPRESSIONS,
    SET_TYPE,
    SET_COUNT,
) = range(1, 21)
DESCRIPTION_SIZE, DESCRIPTION_CONCATENATION = 1, 2
FIELD_LENGTH = 1

ANONYMOUS, CONSTANT, INTERVAL, MAP, TIMEOUT, DYNAMIC, OBJECT, CONCATENATION, EXPRESSION = (
    1 << bit for bit in range(9)
)

ELEMENTS_TABLE, ELEMENTS_SET, ELEMENTS_LIST = 1, 2, 3
ELEMENT_KEY, ELEMENT_DATA, ELEMENT_FLAGS, ELEMENT_TIMEOUT, ELEMENT_EXPIRATION, ELEMENT_USERDATA = range(1, 7)
ELEMENT_PAD = 8
FOR_ALL_KEYS = 2
"""A flag of an element."""

DATA_VALUE, DATA_VERDICT = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2
VERDICT_TYPE = 0xFFFFFF00
VERDICT_REGISTER = 0

HOOKS: Mapping[Hook, int] = MappingProxyType(
    {Hook.PREROUTING: 0, Hook.INPUT: 1, Hook.FORWARD: 2, Hook.OUTPUT: 3, Hook.POSTROUTING: 4}
)
CODES: Mapping[Code, int] = MappingProxyType(
    {
        Code.DROP: 0,
        Code.ACCEPT: 1,
        Code.CONTINUE: 0xFFFFFFFF,
        Code.JUMP: 0xFFFFFFFD,
        Code.GOTO: 0xFFFFFFFC,
        Code.RETURN: 0xFFFFFFFB,
    }
)
OPERATORS: Mapping[Operator, int] = MappingProxyType(
    {operator: number for number, operator in enumerate(Operator)}
)
BASES: Mapping[Base, int] = MappingProxyType({Base.LINK: 0, Base.NETWORK: 1, Base.TRANSPORT: 2})
META_KEYS: Mapping[Key, int] = MappingProxyType(
    {
        Key.LENGTH: 0,
        Key.PROTOCOL: 1,
        Key.MARK: 3,
        Key.INPUT_INDEX: 4,
        Key.OUTPUT_INDEX: 5,
        Key.INPUT_NAME: 6,
        Key.OUTPUT_NAME: 7,
        Key.NETWORK_FAMILY: 15,
        Key.TRANSPORT_PROTOCOL: 16,
        Key.PACKET_TYPE: 19,
        Key.INPUT_KIND: 26,
        Key.OUTPUT_KIND: 27,
    }
)
TYPES: Mapping[str, int] = MappingProxyType(
    {
        "ipv4_addr": 7,
        "ipv6_addr": 8,
        "ether_addr": 9,
        "ether_type": 10,
        "inet_proto": 12,
        "inet_service": 13,
        "icmp_type": 14,
        "mark": 19,
        "ifname": 41,
    }
)
TYPE_BITS = 6
MAX_FIELDS = 5
"""nft packs the types of a concatenation's fields into one number, 6 bits each."""
