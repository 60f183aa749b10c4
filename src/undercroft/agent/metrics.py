"""The fleet's numbers for Prometheus, on a loopback address, computed when they are asked for.

The history of verdicts comes from the audit log, which is read on from where the last question left off.
"""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector, CollectorRegistry

from undercroft.agent.host import now
from undercroft.errors import InputError, OperationError
from undercroft.model.audit import AuditEntry
from undercroft.model.verdict import Verdict
from undercroft.ports.records import Record, Records
from undercroft.steady.metrics import Course, FleetMetrics, fleet_metrics

DEFAULT_ADDRESS = "127.0.0.1:9477"
BUCKETS_S = (60.0, 600.0, 3600.0, 6 * 3600.0, 86400.0, 3 * 86400.0, 7 * 86400.0, 30 * 86400.0)
_PAGE = 5000


def serve(records: Records, address: str) -> Callable[[], None]:
    """Answer Prometheus at "HOST:PORT" and return what ends that.

    Raises:
        InputError: the address is none.
        OperationError: it is in use, or not this host's.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"--metrics {address!r}: HOST:PORT expected, such as {DEFAULT_ADDRESS}")
    registry = CollectorRegistry()
    registry.register(FleetCollector(records, now))
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise OperationError(f"metrics at {address}: {error.strerror or error}") from error

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


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
        self._changes: dict[str, list[tuple[datetime, Verdict]]] = {}
        self._lock = threading.Lock()

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: a registry would otherwise compute all to learn the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        with self._lock, self._records.reading() as record:
            numbers = fleet_metrics(self._courses(record), self._clock())
            held = sum(not hold.pending for hold in record.holds())
            live = len(record.live_executions())
        yield from _families(numbers)
        yield _gauge("undercroft_quarantined_machines", "Machines whose network is closed.", held)
        yield _gauge("undercroft_live_executions", "Executions that live.", live)

    def _courses(self, record: Record) -> list[Course]:
        while entries := record.log_entries(self._read_to, _PAGE):
            for entry in entries:
                self._take(entry)
            self._read_to = entries[-1].number
        first_seen = {machine.domain.uuid: machine.first_seen for machine in record.machines()}
        judgements = record.judgements()
        courses = []
        for subject in record.subjects():
            changes = tuple(self._changes.get(subject.key, ()))
            judged = judgements.get(subject.key)
            began = changes[0][0] if changes else judged.since if judged else self._clock()
            courses.append(Course(subject.kind, first_seen.get(subject.machine, began), changes))
        return courses

    def _take(self, entry: AuditEntry) -> None:
        if entry.kind == "verdict":
            verdict = Verdict(json.loads(entry.body)["verdict"])
            self._changes.setdefault(entry.subject, []).append((entry.at, verdict))


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
    first = "Time from a machine's first sight to its first steady verdict."
    yield _histogram("undercroft_time_to_steady_seconds", first, numbers.until_first_steady_s)
    again = "Time from a drift to the next steady verdict."
    yield _histogram("undercroft_time_to_steady_again_seconds", again, numbers.until_steady_again_s)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _histogram(name: str, text: str, spans_s: tuple[float, ...]) -> HistogramMetricFamily:
    buckets = [(str(limit), float(sum(span <= limit for span in spans_s))) for limit in BUCKETS_S]
    buckets.append(("+Inf", float(len(spans_s))))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=sum(spans_s))
