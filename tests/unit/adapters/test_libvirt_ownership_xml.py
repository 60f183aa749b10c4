"""The metadata element: what is written is read back, and what is wrong voids the whole."""

from datetime import date
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.adapters.libvirt.ownership_xml import (
    MAX_ADDRESSES,
    MAX_LABELS,
    NAMESPACE,
    ownership_xml,
    parse_ownership,
)
from undercroft.errors import InputError
from undercroft.model.addresses import own_address
from undercroft.model.domain import Ownership


def parse(element: str) -> Ownership:
    return parse_ownership(ElementTree.fromstring(f"<domain><metadata>{element}</metadata></domain>"))


def machine(attributes: str = "", content: str = "") -> str:
    return f'<machine xmlns="{NAMESPACE}" {attributes}>{content}</machine>'


def test_an_owner_an_expiry_a_template_and_labels_are_read() -> None:
    content = "<label>web</label><label> db </label><label>web</label>"
    found = parse(machine('owner="web team" expires="2027-01-31" template="yes"', content))
    assert found == Ownership("web team", ("db", "web"), date(2027, 1, 31), template=True)


def test_addresses_are_read_with_the_interface_that_has_them() -> None:
    content = (
        "<address> 192.0.2.7 </address><address>2001:0DB8::7</address><address>192.0.2.7</address>"
        '<address mac="52:54:00:AA:00:01">192.0.2.8</address><label>web</label>'
    )
    assert parse(machine("", content)) == Ownership(
        labels=("web",), addresses=("192.0.2.7", "192.0.2.8@52:54:00:aa:00:01", "2001:db8::7")
    )


def test_no_element_is_nobodys_machine() -> None:
    assert parse("") == Ownership()
    assert parse("<other xmlns='urn:other' owner='x'/>") == Ownership()


@pytest.mark.parametrize(
    ("element", "told"),
    [
        (machine('expires="31.1.2027"'), "expires '31.1.2027': a date is possible"),
        (machine('expires="2027-02-30"'), "expires '2027-02-30'"),
        (machine('expires=""'), "expires ''"),
        (machine('expires="2027-W05-1"'), "expires '2027-W05-1'"),
        (machine('template="maybe"'), "template 'maybe': yes or no"),
        (machine('expiry="2027-01-31"'), "attribute 'expiry': expires, owner, template are possible"),
        (machine(f'owner="{"x" * 201}"'), "at most 200 printable"),
        (machine('owner="a&#x202e;b"'), "owner 'a\\u202eb'"),
        (machine("", "<label>two words</label>"), "label 'two words'"),
        (machine("", "<label/>"), "label ''"),
        (machine("", "<label><b/></label>"), "only <label>TEXT</label>"),
        (machine("", "<tag>web</tag>"), "only <label>TEXT</label>"),
        (machine("", "<address/>"), "address ''"),
        (machine("", "<address>192.0.2.0/24</address>"), "one address is possible"),
        (machine("", "<address>192.0.2.07</address>"), "one address is possible"),
        (machine("", "<address>fe80::1%eth0</address>"), "one address is possible"),
        (machine("", "<address>224.0.0.1</address>"), "no machine can have it"),
        (machine("", "<address>0.0.0.0</address>"), "no machine can have it"),
        (machine("", "<address>255.255.255.255</address>"), "no machine can have it"),
        (machine("", "<address>127.0.0.1</address>"), "no machine can have it"),
        (machine("", "<address>::1</address>"), "no machine can have it"),
        (machine("", "<address>fe80::1</address>"), "no machine can have it"),
        (machine("", "<address>ff02::1</address>"), "no machine can have it"),
        (machine("", "<address>::ffff:192.0.2.7</address>"), "no machine can have it"),
        (machine("", "<address mac='x'>192.0.2.7</address>"), "MAC 'x'"),
        (machine("", "<address mac=''>192.0.2.7</address>"), "MAC ''"),
        (machine("", "<address mac='33:33:00:00:00:01'>192.0.2.7</address>"), "MAC '33:33:00:00:00:01'"),
        (machine("", "<address ip='192.0.2.7'/>"), "only <label>TEXT</label>"),
        (machine("", "<address>192.0.2.7<b/></address>"), "only <label>TEXT</label>"),
        (
            machine("", "".join(f"<address>192.0.2.{n}</address>" for n in range(MAX_ADDRESSES + 1))),
            "64 addresses",
        ),
        (machine("", "".join(f"<label>l{n}</label>" for n in range(MAX_LABELS + 1))), "more than 64 labels"),
        (f'<owner xmlns="{NAMESPACE}"/>', "one <machine> expected"),
        (machine() + machine(), "one <machine> expected"),
    ],
)
def test_a_malformed_element_says_nothing_but_why(element: str, told: str) -> None:
    found = parse(element)
    assert told in found.problem
    assert "virsh" in found.problem
    assert found == Ownership(problem=found.problem)


_ADDRESSES = st.lists(
    st.builds(
        lambda address, mac: f"{address}@{mac}" if mac else str(address),
        st.ip_addresses().filter(lambda address: _is_own(str(address))),
        st.sampled_from(["", "52:54:00:aa:00:01"]),
    ),
    max_size=4,
)


def _is_own(address: str) -> bool:
    try:
        own_address(address)
    except InputError:
        return False
    return True


_LABELS = st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/=-]{0,40}[A-Za-z0-9]", fullmatch=True), max_size=5)


@given(
    owner=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=100),
    labels=_LABELS,
    expires=st.one_of(st.just(""), st.dates().map(str)),
    template=st.booleans(),
    addresses=_ADDRESSES,
)
def test_what_is_written_is_read_back(
    owner: str, labels: list[str], expires: str, template: bool, addresses: list[str]
) -> None:
    expected = Ownership(
        owner,
        tuple(sorted(set(labels))),
        date.fromisoformat(expires) if expires else None,
        template,
        addresses=tuple(sorted(set(addresses))),
    )
    element = ownership_xml(owner, labels, expires, addresses, template=template)
    if element is None:
        assert expected == Ownership()
    else:  # libvirt gives the element its namespace
        assert parse(element.replace("<machine", f'<machine xmlns="{NAMESPACE}"', 1)) == expected


@given(st.text(max_size=300), st.text(max_size=80), st.text(max_size=20), st.lists(st.text(), max_size=1))
def test_any_value_is_written_or_refused(owner: str, label: str, expires: str, addresses: list[str]) -> None:
    try:
        element = ownership_xml(owner, [label], expires, addresses, template=False)
    except InputError:
        return
    assert element is not None
    assert not parse(element.replace("<machine", f'<machine xmlns="{NAMESPACE}"', 1)).problem
