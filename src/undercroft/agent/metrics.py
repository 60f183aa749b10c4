"""The fleet's numbers for Prometheus, on a loopback address, computed when they are asked for.

The history of verdicts comes from the audit log, which is read on from where the last question left off. Of
each subject one value is kept, and the histograms only grow, also where machines go; an agent that is started
anew adds up the same log.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import Collector, CollectorRegistry

from undercroft.agent.host import now
from undercroft.errors import InputError, OperationError
from undercroft.model.audit import AuditEntry
from undercroft.model.filter import AppliedPolicy, FilterState
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.ports.records import Record, Records
from undercroft.steady.metrics import Course, FleetMetrics, fleet_metrics

DEFAULT_ADDRESS = "127.0.0.1:9477"
BUCKETS_S = (60.0, 600.0, 3600.0, 6 * 3600.0, 86400.0, 3 * 86400.0, 7 * 86400.0, 30 * 86400.0)
MAX_CONNECTIONS = 8
"""At once. Whoever is on the host may connect, and must not take the agent's threads (`TasksMax`) from it."""
IDLE_S = 5.0
MAX_PORT = 65535
_PAGE = 5000


def serve(records: Records, address: str) -> Callable[[], None]:
    """Answer Prometheus at "HOST:PORT" and return what ends that.

    Raises:
        InputError: the address is none.
        OperationError: it is in use, or not this host's.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > MAX_PORT:
        raise InputError(f"--metrics {address!r}: HOST:PORT expected, such as {DEFAULT_ADDRESS}")
    registry = CollectorRegistry()
    registry.register(FleetCollector(records, now))
    host = host.strip("[]")
    try:
        server = (_Server6 if ":" in host else _Server)((host, int(port)), _Handler)
    except OSError as error:
        raise OperationError(f"metrics at {address}: {error.strerror or error}") from error
    server.set_app(make_wsgi_app(registry))
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


class _Handler(WSGIRequestHandler):
    """Answers one request, which has to come at once."""

    timeout = IDLE_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: what a client asked for is no matter of the journal."""


class _Server(ThreadingMixIn, WSGIServer):
    """Serves a few connections, and closes all beyond."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, where there is one."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, then make room for another."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away or sent nothing."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class FleetCollector(Collector):
    """Gives the numbers of one record.

    Args:
        records: the record.
        clock: gives the time.
    """

    def __init__(self, records: Records, clock: Callable[[], datetime]) -> None:
        self._records = records
        self._clock = clock
        self._read_to = 0
        self._known: dict[str, Course] = {}
        self._first, self._again = _Spans(), _Spans()
        self._lock = threading.Lock()

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: a registry would otherwise compute all to learn the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now; while the record is away, only that it is."""
        text = "1 where the record could be read just now, 0 where it could not."
        try:
            with self._lock, self._records.reading() as record:
                numbers = fleet_metrics(self._courses(record), self._clock())
                held = sum(not hold.pending for hold in record.holds())
                live = len(record.live_executions())
                applied, states = record.applied_policy(), record.filter_states()
        except OperationError:
            yield _gauge("undercroft_record_readable", text, 0)
            return
        yield _gauge("undercroft_record_readable", text, 1)
        yield from _families(numbers)
        first = "Time from a machine's first sight to its first steady verdict."
        yield self._first.histogram("undercroft_time_to_steady_seconds", first)
        again = "Time from a drift to the next steady verdict."
        yield self._again.histogram("undercroft_time_to_steady_again_seconds", again)
        yield _gauge("undercroft_quarantined_machines", "Machines whose network is closed.", held)
        yield _gauge("undercroft_live_executions", "Executions that live.", live)
        if applied is not None:
            yield from _firewall(applied, states, self._clock())

    def _courses(self, record: Record) -> list[Course]:
        first_seen = {machine.domain.uuid: machine.first_seen for machine in record.machines()}
        while entries := record.log_entries(self._read_to, _PAGE):
            for entry in entries:
                if entry.kind == "verdict":
                    self._take(record, entry, first_seen)
                self._read_to = entry.number  # one by one: the record may go away in between
        judgements, subjects = record.judgements(), record.subjects()
        there = {subject.key for subject in subjects}
        # A machine that is gone may come back, and is no new one then.
        self._known = {
            key: course
            for key, course in self._known.items()
            if key in there or course.kind is SubjectKind.MACHINE
        }
        courses = []
        for subject in subjects:
            judged = judgements.get(subject.key)
            began = first_seen.get(subject.machine, judged.since if judged else self._clock())
            known = self._known.get(subject.key, Course(subject.kind, began))
            courses.append(replace(known, kind=subject.kind))  # an image's key does not tell a template
        return courses

    def _take(self, record: Record, entry: AuditEntry, first_seen: Mapping[str, datetime]) -> None:
        """Take one verdict of the log; what it ends is added once, and only machines' is."""
        course = self._known.get(entry.subject)
        if course is None:
            word, _, uuid = entry.subject.partition(":")
            kind, began = SubjectKind(word), first_seen.get(uuid, entry.at)
            if kind is SubjectKind.MACHINE and uuid not in first_seen:  # it is gone
                gone = record.find_machines(uuid)
                began = min((machine.first_seen for machine in gone), default=entry.at)
            course = Course(kind, began)
        step = course.then(entry.at, Verdict(json.loads(entry.body)["verdict"]))
        self._known[entry.subject] = step.course
        if course.kind is SubjectKind.MACHINE:
            self._first.add(step.until_first_steady_s)
            self._again.add(step.until_steady_again_s)


class _Spans:
    """A histogram that only grows."""

    def __init__(self) -> None:
        self._counts = [0] * len(BUCKETS_S)
        self._count, self._sum_s = 0, 0.0

    def add(self, span_s: float | None) -> None:
        """Count one, None for none."""
        if span_s is not None:
            self._counts = [
                count + (span_s <= limit) for count, limit in zip(self._counts, BUCKETS_S, strict=True)
            ]
            self._count, self._sum_s = self._count + 1, self._sum_s + span_s

    def histogram(self, name: str, text: str) -> HistogramMetricFamily:
        """Return it as Prometheus takes it."""
        counted = zip(BUCKETS_S, self._counts, strict=True)
        buckets = [*((str(limit), float(count)) for limit, count in counted), ("+Inf", float(self._count))]
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self._sum_s)


def _families(numbers: FleetMetrics) -> Iterator[Metric]:
    if numbers.steady_share is not None:
        text = "Share of the machines that are steady, 0 to 1."
        yield _gauge("undercroft_steady_share", text, numbers.steady_share)
    text = "Time for which the machine that has drifted for longest has not been steady."
    yield _gauge("undercroft_oldest_drift_seconds", text, numbers.oldest_drift_s)
    subjects = GaugeMetricFamily(
        "undercroft_subjects", "What is judged, by kind and verdict.", labels=("kind", "verdict")
    )
    for (kind, verdict), count in sorted(numbers.counts.items()):
        subjects.add_metric((kind.value, verdict.value), count)
    yield subjects


def _firewall(applied: AppliedPolicy, states: Sequence[FilterState], at: datetime) -> Iterator[Metric]:
    """Yield what hosts say of their firewalls; a proof's age only where there is a proof."""
    text = "Number of the firewall policy that was applied last."
    yield _gauge("undercroft_firewall_applied_number", text, applied.number)
    numbers = _by_host("policy_number", "Number of the policy that the host's kernel holds.")
    machines = _by_host("machines", "Machines with a port in the host's filter.")
    problems = _by_host("problem", "1 where the host says that something is not as it should be.")
    ages = _by_host("proof_age_seconds", "Time since the host's kernel was last proven to hold the policy.")
    for state in states:
        numbers.add_metric((state.host,), state.number)
        machines.add_metric((state.host,), state.machines)
        problems.add_metric((state.host,), bool(state.problem))
        if state.proven_at is not None:
            ages.add_metric((state.host,), max((at - state.proven_at).total_seconds(), 0.0))
    yield from (numbers, machines, problems, ages)


def _by_host(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"undercroft_firewall_{name}", text, labels=("host",))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
