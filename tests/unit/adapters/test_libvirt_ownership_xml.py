"""The metadata element: what is written is read back, and what is wrong voids the whole."""

from datetime import date
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.adapters.libvirt.ownership_xml import (
    MAX_LABELS,
    NAMESPACE,
    ownership_xml,
    parse_ownership,
)
from undercroft.errors import InputError
from undercroft.model.domain import Ownership


def parse(element: str) -> Ownership:
    return parse_ownership(ElementTree.fromstring(f"<domain><metadata>{element}</metadata></domain>"))


def machine(attributes: str = "", content: str = "") -> str:
    return f'<machine xmlns="{NAMESPACE}" {attributes}>{content}</machine>'


def test_an_owner_an_expiry_a_template_and_labels_are_read() -> None:
    content = "<label>web</label><label> db </label><label>web</label>"
    found = parse(machine('owner="web team" expires="2027-01-31" template="yes"', content))
    assert found == Ownership("web team", ("db", "web"), date(2027, 1, 31), template=True)


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


_LABELS = st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/=-]{0,40}[A-Za-z0-9]", fullmatch=True), max_size=5)


@given(
    owner=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=100),
    labels=_LABELS,
    expires=st.one_of(st.just(""), st.dates().map(str)),
    template=st.booleans(),
)
def test_what_is_written_is_read_back(owner: str, labels: list[str], expires: str, template: bool) -> None:
    expected = Ownership(
        owner, tuple(sorted(set(labels))), date.fromisoformat(expires) if expires else None, template
    )
    element = ownership_xml(owner, labels, expires, template=template)
    if element is None:
        assert expected == Ownership()
    else:  # libvirt gives the element its namespace
        assert parse(element.replace("<machine", f'<machine xmlns="{NAMESPACE}"', 1)) == expected


@given(st.text(max_size=300), st.text(max_size=80), st.text(max_size=20))
def test_any_value_is_written_or_refused(owner: str, label: str, expires: str) -> None:
    try:
        element = ownership_xml(owner, [label], expires, template=False)
    except InputError:
        return
    assert element is not None
    assert not parse(element.replace("<machine", f'<machine xmlns="{NAMESPACE}"', 1)).problem
