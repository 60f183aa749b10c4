"""The metadata element that says whose machine it is. Pure; no I/O.

    <machine xmlns="urn:undercroft:machine:1" owner="web team" expires="2027-01-31" template="yes">
      <label>web</label>
      <address>192.0.2.7</address>
      <address mac="52:54:00:12:34:56">2001:db8::7</address>
    </machine>

An address is that of the interface with this MAC, of the first one where none is named.

Whoever may define machines may write it, by hand too: each value is checked, and one that is wrong voids the
whole, so that a typing error in an expiry is told and not taken for "never".
"""

import re
from collections.abc import Sequence
from datetime import date
from xml.etree import ElementTree

from undercroft.errors import InputError
from undercroft.model.addresses import claim, claimed, own_address, own_mac
from undercroft.model.domain import Ownership

NAMESPACE = "urn:undercroft:machine:1"
PREFIX = "undercroft"
ELEMENT = "machine"
MAX_OWNER_CHARACTERS = 200
MAX_LABEL_CHARACTERS = 63
MAX_LABELS = 64
MAX_ADDRESSES = 64

_ATTRIBUTES = frozenset({"owner", "expires", "template"})
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/=-]*[A-Za-z0-9])?")
_YES_OR_NO = {"yes": True, "no": False}


def parse_ownership(domain: ElementTree.Element) -> Ownership:
    """Return what a domain's parsed XML says of its owner; `problem` is set where it is malformed."""
    found = [child for child in domain.iterfind("metadata/*") if child.tag.startswith(f"{{{NAMESPACE}}}")]
    if not found:
        return Ownership()
    try:
        if len(found) > 1 or found[0].tag != f"{{{NAMESPACE}}}{ELEMENT}":
            raise InputError(f"one <{ELEMENT}> expected in namespace {NAMESPACE}")
        return _parse(found[0])
    except InputError as error:
        return Ownership(problem=f"metadata {NAMESPACE}: {error}; mend it with virsh metadata or virsh edit")


def ownership_xml(
    owner: str, labels: Sequence[str], expires_on: str, addresses: Sequence[str], *, template: bool
) -> str | None:
    """Return the element as libvirt's SetMetadata takes it, None where there is nothing to say.

    It has no namespace: libvirt gives it and its children the one that goes with the call. Addresses are as
    in `Ownership.addresses`.

    Raises InputError for a value that `parse_ownership` would not take back.
    """
    untrusted_element = ElementTree.Element(ELEMENT)
    if owner:
        untrusted_element.set("owner", owner)
    if expires_on:
        untrusted_element.set("expires", expires_on)
    if template:
        untrusted_element.set("template", "yes")
    for label in labels:
        ElementTree.SubElement(untrusted_element, "label").text = label
    for mac, address in map(claimed, addresses):
        ElementTree.SubElement(untrusted_element, "address", {"mac": mac} if mac else {}).text = str(address)
    if _parse(untrusted_element) == Ownership():
        return None
    return ElementTree.tostring(untrusted_element, encoding="unicode")


def _parse(untrusted_element: ElementTree.Element) -> Ownership:
    attributes = untrusted_element.attrib
    if unknown := sorted(set(attributes) - _ATTRIBUTES):
        raise InputError(f"attribute {unknown[0]!r}: {', '.join(sorted(_ATTRIBUTES))} are possible")
    labels, addresses = _listed(untrusted_element)
    return Ownership(
        owner=_owner(attributes.get("owner", "")),
        labels=labels,
        expires_on=_expiry(attributes.get("expires")),
        template=_template(attributes.get("template", "no")),
        addresses=addresses,
    )


def _owner(untrusted_owner: str) -> str:
    if len(untrusted_owner) > MAX_OWNER_CHARACTERS or not untrusted_owner.isprintable():
        raise InputError(
            f"owner {untrusted_owner[:MAX_OWNER_CHARACTERS]!r}: at most {MAX_OWNER_CHARACTERS} printable"
            " characters are possible"
        )
    return untrusted_owner.strip()


def _listed(untrusted_element: ElementTree.Element) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return labels and addresses, each sorted."""
    labels: set[str] = set()
    addresses: set[str] = set()
    for child in untrusted_element:
        attributes = set(child.attrib)
        match child.tag.removeprefix(f"{{{NAMESPACE}}}"):
            case "label" if not len(child) and not attributes:
                labels.add(_label((child.text or "").strip()))
            case "address" if not len(child) and attributes <= {"mac"}:
                addresses.add(_address(child))
            case _:
                raise InputError(
                    f"element <{child.tag[:80]}>: only <label>TEXT</label> and"
                    ' <address mac="MAC">ADDRESS</address>, with the MAC or without, are possible'
                )
        if len(labels) > MAX_LABELS or len(addresses) > MAX_ADDRESSES:
            raise InputError(f"more than {MAX_LABELS} labels or {MAX_ADDRESSES} addresses")
    return tuple(sorted(labels)), tuple(sorted(addresses))


def _address(untrusted_element: ElementTree.Element) -> str:
    mac = untrusted_element.get("mac")
    address = own_address((untrusted_element.text or "").strip())
    return claim("" if mac is None else own_mac(mac), address)


def _label(untrusted_label: str) -> str:
    if len(untrusted_label) > MAX_LABEL_CHARACTERS or not _LABEL.fullmatch(untrusted_label):
        raise InputError(
            f"label {untrusted_label[:MAX_LABEL_CHARACTERS]!r}: 1 to {MAX_LABEL_CHARACTERS} letters, digits"
            " and . _ / = - inside are possible"
        )
    return untrusted_label


def _expiry(untrusted_date: str | None) -> date | None:
    if untrusted_date is None:
        return None
    try:
        if _DATE.fullmatch(untrusted_date):
            return date.fromisoformat(untrusted_date)
    except ValueError:
        pass
    raise InputError(f"expires {untrusted_date[:40]!r}: a date is possible, such as 2027-01-31")


def _template(untrusted_word: str) -> bool:
    if untrusted_word not in _YES_OR_NO:
        raise InputError(f"template {untrusted_word[:40]!r}: yes or no are possible")
    return _YES_OR_NO[untrusted_word]
