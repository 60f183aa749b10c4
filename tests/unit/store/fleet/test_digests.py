import dataclasses
import json

import pytest
from recordvalues import assessment, domain, execution, inventory, judgement, scan

from undercroft.assurance.auditlog import canonical
from undercroft.model.disk import Coverage
from undercroft.model.inventory import Boot, Inventory, Kernel
from undercroft.model.schema import decode, encode
from undercroft.store.fleet.digests import software_digest, text_digest, to_text


@pytest.mark.parametrize(
    "value",
    [inventory(), domain(), execution(), judgement(), scan(), assessment(), inventory(hostname="\udcff\0é")],
)
def test_the_quick_way_to_json_gives_what_the_schema_gives_and_comes_back(value: object):
    assert to_text(value) == canonical(encode(value))
    assert decode(type(value), json.loads(to_text(value))) == value
    assert len(text_digest(to_text(value))) == 64


CHANGES: dict[str, object] = {
    "os": None,
    "packages": (),
    "kernels": (Kernel("6.1.0-28-amd64", "/boot/vmlinuz", "linux-image"),),
    "boot": Boot("6.1.0-28-amd64"),
    "hostname": "another",
    "unowned_executables": 5,
    "unowned_examples": ("/opt/tool",),
    "coverage": Coverage((), ("unread",)),
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Inventory)])
def test_the_software_digest_is_of_what_advisories_look_at_and_of_nothing_else(field: str):
    changed = dataclasses.replace(inventory(), **{field: CHANGES[field]})  # type: ignore[arg-type]
    is_matched = field in {"os", "packages", "kernels", "boot"}
    assert (software_digest(changed) != software_digest(inventory())) == is_matched
