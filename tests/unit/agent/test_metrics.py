"""The metrics' address: answers, and gives nobody on the host the agent's threads."""

import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta

import fleetdata
import pytest
from fleetdata import NOW
from memoryrecords import MemoryRecord, MemoryRecords
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from undercroft.agent import metrics
from undercroft.errors import InputError, OperationError
from undercroft.model.filter import FilterState
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.ports.records import Records


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(metrics._Handler, "timeout", 0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    end = metrics.serve(MemoryRecords(), f"127.0.0.1:{number}")
    yield number
    end()


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return answer.read().decode()


def test_it_answers_with_the_fleets_numbers(port: int) -> None:
    assert "undercroft_live_executions 0.0" in scraped(port)


def test_idle_connections_take_no_more_threads_than_the_limit_and_give_them_back(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics._Handler, "timeout", 60.0)
    before = threading.active_count()
    with ExitStack() as opened:
        idle = [
            opened.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20)))
            for _ in range(4 * metrics.MAX_CONNECTIONS)
        ]
        assert [one.recv(1) for one in idle[metrics.MAX_CONNECTIONS :]] == [b""] * 3 * metrics.MAX_CONNECTIONS
        assert threading.active_count() <= before + metrics.MAX_CONNECTIONS
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(20)
    assert "undercroft_live_executions" in scraped(port)


def test_who_sends_nothing_is_sent_away(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as idle:
        assert idle.recv(1) == b""


@pytest.mark.parametrize(
    "address", ["", "9477", ":9477", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:²"]
)
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT expected"):
        metrics.serve(MemoryRecords(), address)


def test_an_address_in_use_is_told(port: int) -> None:
    with pytest.raises(OperationError, match=f"metrics at 127.0.0.1:{port}"):
        metrics.serve(MemoryRecords(), f"127.0.0.1:{port}")


class AwayRecords(MemoryRecords):
    """A record that is away."""

    @contextmanager
    def reading(self) -> Iterator[MemoryRecord]:
        raise OperationError("the record: connection refused")
        yield


def families(records: Records) -> dict[str, dict[tuple[str, ...], float]]:
    """Return what Prometheus' own parser makes of the numbers of a record: values by family and labels."""
    registry = CollectorRegistry()
    registry.register(metrics.FleetCollector(records, lambda: NOW))
    text = generate_latest(registry).decode()
    return {
        family.name: {
            tuple(sample.labels.values()): sample.value
            for sample in family.samples
            if not sample.name.endswith(("_bucket", "_sum"))
        }
        for family in text_string_to_metric_families(text)
    }


def test_the_numbers_are_those_of_the_record() -> None:
    records = MemoryRecords()
    fleetdata.fill(records)
    found = families(records)
    with records.reading() as record:
        judgements, subjects = record.judgements(), record.subjects()
        holds, live = record.holds(), record.live_executions()
    counted = Counter((one.kind.value, judgements[one.key].verdict.value) for one in subjects)
    assert {key: value for key, value in found["undercroft_subjects"].items() if value} == counted
    machines = [judgements[one.key].verdict for one in subjects if one.kind is SubjectKind.MACHINE]
    share = machines.count(Verdict.STEADY) / len(machines)
    assert found["undercroft_steady_share"] == {(): share}
    assert found["undercroft_quarantined_machines"] == {(): sum(not hold.pending for hold in holds)}
    assert found["undercroft_live_executions"] == {(): len(live)}
    assert found["undercroft_record_readable"] == {(): 1}
    assert found["undercroft_oldest_drift_seconds"][()] > 0


def test_what_changes_between_two_questions_counts_once() -> None:
    records = MemoryRecords()
    fleetdata.fill(records)
    registry = CollectorRegistry()
    registry.register(metrics.FleetCollector(records, lambda: NOW))
    before = generate_latest(registry)
    assert generate_latest(registry) == before
    with records.transaction() as record:
        record.drop_subjects([subject.key for subject in record.subjects()])
    text = generate_latest(registry).decode()
    assert "undercroft_steady_share" not in text
    assert 'undercroft_subjects{kind="machine",verdict="steady"} 0.0' in text


def histograms(registry: CollectorRegistry) -> dict[str, float]:
    """Return the values of the histograms that tell how long it takes to be steady."""
    found = text_string_to_metric_families(generate_latest(registry).decode())
    samples = [sample for family in found if "time_to_steady" in family.name for sample in family.samples]
    return {f"{sample.name} {sample.labels.get('le', '')}": sample.value for sample in samples}


def test_histograms_never_shrink_where_machines_go_and_a_new_agent_adds_up_the_same() -> None:
    """Prometheus takes a number that shrinks for a reset, and adds all of it once more."""
    records, registry = MemoryRecords(), CollectorRegistry()
    fleetdata.fill(records)
    collector = metrics.FleetCollector(records, lambda: NOW)
    registry.register(collector)
    before = histograms(registry)
    assert before["undercroft_time_to_steady_seconds_count "] > 0
    with records.transaction() as record:
        record.drop_subjects([subject.key for subject in record.subjects()])
    assert histograms(registry) == before
    again = CollectorRegistry()
    again.register(metrics.FleetCollector(records, lambda: NOW))
    assert histograms(again) == before


def test_a_machine_whose_verdict_changes_all_the_time_takes_no_more_room() -> None:
    records, registry = MemoryRecords(), CollectorRegistry()
    collector = metrics.FleetCollector(records, lambda: NOW)
    registry.register(collector)
    with records.transaction() as record:
        for number in range(2000):
            word = Verdict.STEADY if number % 2 else Verdict.DRIFTING
            record.log("verdict", "machine:1", {"verdict": word.value}, NOW + timedelta(seconds=number))
    assert histograms(registry)["undercroft_time_to_steady_again_seconds_count "] == 999
    assert len(collector._known) == 1


def test_a_record_that_is_away_is_told_and_ends_nothing() -> None:
    assert families(AwayRecords()) == {"undercroft_record_readable": {(): 0}}


def test_without_a_firewall_policy_nothing_is_said_of_firewalls() -> None:
    assert not [name for name in families(MemoryRecords()) if "firewall" in name]


def test_each_host_s_firewall_has_its_numbers_and_a_proof_its_age() -> None:
    records = MemoryRecords()
    proven = NOW - timedelta(seconds=90)
    with records.transaction() as record:
        record.put_applied_policy("{}", "ab" * 32, "alice", "", NOW)
        record.put_filter_state(FilterState("alpha", 1, "ab" * 32, 7, 12, proven, "", NOW))
        record.put_filter_state(FilterState("beta", 0, "", 0, 0, None, "the kernel has no nf_tables", NOW))
    found = families(records)
    assert found["undercroft_firewall_applied_number"] == {(): 1}
    assert found["undercroft_firewall_policy_number"] == {("alpha",): 1, ("beta",): 0}
    assert found["undercroft_firewall_machines"] == {("alpha",): 12, ("beta",): 0}
    assert found["undercroft_firewall_problem"] == {("alpha",): 0, ("beta",): 1}
    assert found["undercroft_firewall_proof_age_seconds"] == {("alpha",): 90}
