"""The fleet and one machine as JSON and YAML: what is emitted is what the schemas document."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fleetdata
import jsonschema
import pytest
import reports
import yaml
from fleetdata import NOW
from memoryrecords import MemoryRecords

from undercroft.cli.render import data
from undercroft.cli.render.escape import unescape
from undercroft.usecases.fleet.views.fleet import fleet_view
from undercroft.usecases.fleet.views.machine import machine_view
from undercroft.usecases.fleet.views.values import FleetView, MachineView

SCHEMAS = Path(__file__).parents[4] / "docs/schema"
View = Callable[[str], MachineView]


@pytest.fixture(scope="module")
def records() -> MemoryRecords:
    records = MemoryRecords()
    fleetdata.fill(records)
    return records


@pytest.fixture(scope="module")
def fleet(records: MemoryRecords) -> FleetView:
    with records.reading() as record:
        return fleet_view(record, NOW)


@pytest.fixture(scope="module")
def view(records: MemoryRecords) -> View:
    def viewed(name: str) -> MachineView:
        with records.reading() as record:
            return machine_view(record, name, NOW)

    return viewed


def closed(schema: Any) -> Any:
    """Return `schema` with no room for members that it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    return {**inner, "additionalProperties": False} if schema.get("type") == "object" else inner


def checked(text: str, schema: str) -> Any:
    document = json.loads(text)
    checker = jsonschema.Draft202012Validator(
        closed(json.loads((SCHEMAS / schema).read_text())),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    checker.validate(document)
    return document


def test_the_fleet_is_as_its_schema_documents(fleet: FleetView) -> None:
    document = checked(data.render_fleet(fleet, fleet.rows, "json"), "fleet-v1.json")
    assert len(document["rows"]) == len(fleet.rows)
    assert document["summary"]["machine"] == {"steady": 6, "drifting": 3, "quarantined": 1, "unknown": 2}


@pytest.mark.parametrize("name", [machine.uuid for machine in fleetdata.SURVEY.domains])
def test_each_machine_is_as_its_schema_documents(view: View, name: str) -> None:
    checked(data.render_machine(view(name), "json"), "machine-v1.json")


@pytest.mark.parametrize("schema", ["fleet-v1.json", "machine-v1.json"])
def test_the_schemas_refuse_another_shape(fleet: FleetView, view: View, schema: str) -> None:
    text = data.render_fleet(fleet, fleet.rows, "json")
    other = data.render_machine(view("web01"), "json")
    wrong = other if schema.startswith("fleet") else text
    with pytest.raises(jsonschema.ValidationError):
        checked(wrong, schema)


def test_rows_are_the_wanted_ones_and_the_summary_the_whole_fleet(fleet: FleetView) -> None:
    document = json.loads(data.render_fleet(fleet, fleet.rows[:1], "json"))
    assert [row["name"] for row in document["rows"]] == ["gw01"]
    assert sum(sum(counts.values()) for counts in document["summary"].values()) == len(fleet.rows)


def test_unknown_is_null_and_never_a_zero(fleet: FleetView, view: View) -> None:
    document = json.loads(data.render_fleet(fleet, fleet.rows, "json"))
    (warm,) = [row for row in document["rows"] if row["name"] == "app01@warm"]
    assert (warm["brought_back"], warm["scanned_at"], warm["action"]) == (None, None, None)
    assert document["complete"] is False
    new = json.loads(data.render_machine(view("new01"), "json"))
    assert (new["states"][0]["counts"], new["credentials"], new["complete"]) == (None, None, False)


def test_hostile_names_are_escaped_and_can_be_had_back(fleet: FleetView) -> None:
    text = data.render_fleet(fleet, fleet.rows, "json")
    assert text.isascii()
    (row,) = [
        row for row in json.loads(text)["rows"] if row["machine"] == fleetdata.HOSTILE.uuid and row["power"]
    ]
    assert unescape(row["name"]) == reports.EVIL
    assert base64.b64decode(row["name_base64"]) == reports.EVIL.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("kind", ["fleet", "machine"])
def test_yaml_says_the_same_as_json(fleet: FleetView, view: View, kind: str) -> None:
    def render(form: str) -> str:
        if kind == "fleet":
            return data.render_fleet(fleet, fleet.rows, form)
        return data.render_machine(view("web01"), form)

    assert yaml.safe_load(render("yaml")) == json.loads(render("json"))
