"""What a publisher says of a fix is said in every output, and no output fails on any of its words."""

import json

import pytest
from reports import assessment, finding, report, state

from undercroft.cli.render.cyclonedx import render_cyclonedx
from undercroft.cli.render.data import render_scan
from undercroft.cli.render.sarif import render_sarif
from undercroft.cli.render.table import render as render_table
from undercroft.cli.render.terminal import Terminal
from undercroft.cli.render.words import WITHOUT_FIX
from undercroft.model.finding import FixState

WITHOUT = pytest.mark.parametrize("fix", WITHOUT_FIX, ids=lambda fix: fix.value)


def one(fix: FixState):
    return report(state(assessment=assessment(finding(fix=fix, fixed_version=""))))


def test_every_state_of_a_fix_has_words() -> None:
    assert set(FixState) - set(WITHOUT_FIX) == {FixState.FIXABLE, FixState.NEEDS_SUBSCRIPTION}


@WITHOUT
@pytest.mark.parametrize("verbose", [True, False])
def test_the_table_says_why_there_is_no_fix(fix: FixState, *, verbose: bool) -> None:
    text = render_table(one(fix), Terminal(width=100), verbose=verbose)
    assert not verbose or WITHOUT_FIX[fix] in text
    assert "openssl" in text


@WITHOUT
def test_sarif_and_json_carry_the_state(fix: FixState) -> None:
    (result,) = json.loads(render_sarif(one(fix)))["runs"][0]["results"]
    assert result["properties"]["fix"] == fix.value
    assert WITHOUT_FIX[fix] in result["message"]["text"]
    assert f'"fix": "{fix.value}"' in render_scan(one(fix), "json")


@WITHOUT
def test_cyclonedx_carries_the_state(fix: FixState) -> None:
    scan = one(fix)
    (vulnerability,) = json.loads(render_cyclonedx(scan, scan.states[0]))["vulnerabilities"]
    properties = {entry["name"]: entry["value"] for entry in vulnerability["properties"]}
    assert properties["undercroft:fix"] == fix.value
    assert ("recommendation" in vulnerability) is (fix is not FixState.UNFIXED)


@pytest.mark.parametrize(("source", "newest"), [("pypi:requests", "2.0"), ("requests", "2.0rc1")])
def test_the_newest_of_several_fixes_is_that_of_the_packages_own_manager(source: str, newest: str) -> None:
    found = [finding(f"CVE-{fixed}", source, fixed_version=fixed) for fixed in ("2.0rc1", "2.0")]
    text = render_table(report(state(assessment=assessment(*found))), Terminal())
    (row,) = [line.split() for line in text.splitlines() if line.split()[1:2] == [source]]
    assert row[3] == newest
