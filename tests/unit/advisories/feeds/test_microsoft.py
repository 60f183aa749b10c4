"""Microsoft's documents: builds of Windows, servers and clients apart, and the machines that lack them."""

import json

import pytest
from advisorydata import assessed, header, inventory
from feedfixtures import parsed, refusal, zipped

from undercroft.advisories.feeds import microsoft
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.releases import release_key
from undercroft.model.finding import Severity
from undercroft.model.inventory import OsRelease

SERVER = OsRelease("windows", "10.0.20348.2100", "21H2", "Windows Server 2022 Standard", "SOFTWARE")


def csaf(ident: str = "CVE-2024-38063", build: str = "10.0.20348.2655", **changes: object) -> bytes:
    def product(ident: str, category: str, name: str) -> dict[str, object]:
        return {"category": category, "name": name, "product": {"name": name, "product_id": ident}}

    names = {
        "Windows Server 2022": [
            product("1", "product_version_range", f"<{build}"),
            product("11923", "product_version", build),
        ],
        "Windows 10 Version 1809 for x64-based Systems": [product("2", "product_version", "10.0.17763.6189")],
        "Microsoft Office": [product("3", "product_version", "16.0.10413.20020")],
    }
    branches = [
        {"category": "product_name", "name": name, "branches": list_} for name, list_ in names.items()
    ]
    document = {
        "document": {
            "category": "csaf_security_advisory",
            "csaf_version": "2.0",
            "publisher": {"category": "vendor", "namespace": "https://msrc.microsoft.com"},
            "title": "Windows TCP/IP Remote Code Execution Vulnerability",
            "tracking": {
                "id": f"msrc_{ident}",
                "initial_release_date": "2024-08-13T07:00:00Z",
                "current_release_date": "2024-09-01T07:00:00Z",
            },
        },
        "product_tree": {"branches": [{"category": "vendor", "name": "Microsoft", "branches": branches}]},
        "vulnerabilities": [
            {
                "cve": ident,
                "product_status": {"fixed": ["11923", "2", "3", "none"], "known_affected": ["1"]},
                "threats": [{"category": "impact", "details": "Critical"}],
            }
        ],
    }
    return json.dumps(document | changes).encode()


def cvrf(**changes: object) -> bytes:
    document = {
        "DocumentTitle": {"Value": "August 2024 Security Updates"},
        "DocumentTracking": {
            "Identification": {"ID": {"Value": "2024-Aug"}},
            "InitialReleaseDate": "2024-08-13T07:00:00",
            "CurrentReleaseDate": "2024-09-01T07:00:00",
        },
        "ProductTree": {
            "FullProductName": [
                {"ProductID": "11923", "Value": "Windows Server 2022"},
                {"ProductID": "11568", "Value": "Windows 10 Version 1809 for 32-bit Systems"},
                {"ProductID": "1", "Value": "Microsoft Office"},
            ]
        },
        "Vulnerability": [
            {
                "CVE": "CVE-2024-38063",
                "Title": {"Value": "Windows TCP/IP"},
                "Threats": [{"Type": 3, "Description": {"Value": "Critical"}, "ProductID": ["11923"]}],
                "Remediations": [
                    {"FixedBuild": "10.0.20348.2655", "ProductID": ["11923"]},
                    {"FixedBuild": "10.0.20348.2642", "ProductID": ["11923"], "SubType": "Hotpatch"},
                    {"FixedBuild": "10.0.17763.6189", "ProductID": ["11568"]},
                    {"FixedBuild": "https://example", "ProductID": ["11923"]},
                    {"ProductID": ["11923"]},
                    {"FixedBuild": "10.0.20348.2655", "ProductID": ["1"]},
                ],
            }
        ],
    }
    return json.dumps(document | changes).encode()


def test_a_csaf_document_names_the_builds_that_fix_a_cve() -> None:
    feed, records = parsed(parse_any, csaf())
    assert feed.header.name == "microsoft:msrc_CVE-2024-38063"
    assert {(item.release, item.source, item.fixed_version) for item in records} == {
        ("windows:10.0.20348", "windows-server", "10.0.20348.2655"),
        ("windows:10.0.17763", "windows", "10.0.17763.6189"),
    }
    assert {(item.severity, item.severity_source) for item in records} == {
        (Severity.CRITICAL, "microsoft:severity")
    }


def test_a_month_as_cvrf_says_the_same() -> None:
    feed, records = parsed(parse_any, cvrf())
    assert feed.header.name == "microsoft:2024-Aug"
    assert {(item.source, item.fixed_version) for item in records} == {
        ("windows-server", "10.0.20348.2655"),
        ("windows-server", "10.0.20348.2642"),
        ("windows", "10.0.17763.6189"),
    }


@pytest.mark.parametrize(
    ("build", "fixed"),
    [("2100", False), ("2641", False), ("2642", True), ("2650", False), ("2655", True), ("2700", True)],
)
def test_a_server_lacks_a_fix_below_its_build_unless_it_has_a_hotpatch(build: str, *, fixed: bool) -> None:
    records = parsed(parse_any, cvrf())[1]
    state = inventory(os=OsRelease("windows", f"10.0.20348.{build}", "", SERVER.name, ""))
    feed = header(records[0].feed, ("windows:10.0.20348",))
    answer = assessed(state, (feed, records), release="windows:10.0.20348")
    assert [finding.source for finding in answer.findings] == ([] if fixed else ["windows-server"])
    assert any("no advisories for windows:10.0.20348" in problem for problem in answer.problems)


def test_the_build_is_the_release_and_a_client_of_it_is_no_server() -> None:
    assert release_key(SERVER) == "windows:10.0.20348"
    records = parsed(parse_any, csaf())[1]
    client = inventory(os=OsRelease("windows", "10.0.20348.1", "", "Windows 10 Pro", ""))
    feed = header(records[0].feed, ("windows:10.0.20348",))
    assert assessed(client, (feed, records), release="windows:10.0.20348").findings == ()


@pytest.mark.parametrize("name", ["Windows", "", "Fenster"])
def test_a_server_whose_name_does_not_say_so_is_not_clean(name: str) -> None:
    records = parsed(parse_any, csaf())[1]
    nameless = inventory(os=OsRelease("windows", "10.0.20348.1", "", name, ""))
    feed = header(records[0].feed, ("windows:10.0.20348",))
    (found,) = assessed(nameless, (feed, records), release="windows:10.0.20348").findings
    assert found.source == "windows-server"


def test_a_year_of_documents_lists_a_releases_fixes() -> None:
    year = {f"{month}.json": csaf(f"CVE-2024-{month:04}") for month in range(12)}
    header_ = parsed(parse_any, zipped(year))[0].header
    assert (header_.name, header_.listed_for) == ("microsoft", ("windows:10.0.17763", "windows:10.0.20348"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (csaf(vulnerabilities=[{"cve": "CVE-1"}]), "is not a CVE number"),
        (csaf(vulnerabilities=[]), "names no build of Windows"),
        (csaf(product_tree={"branches": [{"branches": 1}]}), "expected a list"),
        (cvrf(Vulnerability=[{"CVE": "a b"}]), "is not an id"),
        (cvrf(DocumentTracking={}), "expected an object"),
        (cvrf(ProductTree={"FullProductName": {}}), "expected a list"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes, message: str) -> None:
    assert message in refusal(microsoft.parse, data)
