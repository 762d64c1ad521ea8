"""Metric definitions on top of prometheus_client: counter, gauge and histogram.

On import, prometheus_client reads PROMETHEUS_MULTIPROC_DIR and decides whether values are kept in the process or in
files that several processes share. It is therefore imported on first use: in the process that updates the metric, after
the environment is set.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

if TYPE_CHECKING:
    import prometheus_client

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds: a read takes about 1 ms, a batch of 100 passwords several seconds."""

DYNAMIC: tuple[str, ...] = ()
"""Values of a label that are known only at runtime; their series appear with the first update."""

Collector = TypeVar("Collector", "prometheus_client.Counter", "prometheus_client.Gauge", "prometheus_client.Histogram")

_collectors: dict[str, Any] = {}
"""Metric name -> the collector registered with prometheus_client in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(ABC, Generic[Collector]):
    """Definition of one metric. `label_values` maps each label to the values exposed from the start, or to DYNAMIC."""

    type: ClassVar[str]

    name: str
    help: str
    unit: str
    processes: Sequence[str]
    label_values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def labels(self, *values: str) -> Collector:
        """Return the collector for these label values, in the order of `label_values`.

        Keep the result where updates are frequent: each call is a lookup.
        """
        collector = _collectors.get(self.name)
        if collector is None:
            collector = _collectors[self.name] = self._create()
        return collector.labels(*values) if values else collector

    def register(self) -> None:
        """Register the metric, so that it is exposed before its first update, at 0 for each known label value."""
        self.labels()
        for values in product(*self.label_values.values()):
            self.labels(*values)

    @abstractmethod
    def _create(self) -> Collector: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter(Metric["prometheus_client.Counter"]):
    """A value that only increases."""

    type = "counter"

    def inc(self, amount: float = 1) -> None:
        """Increase a counter without labels."""
        self.labels().inc(amount)

    def _create(self) -> "prometheus_client.Counter":
        import prometheus_client

        return prometheus_client.Counter(self.name, self.help, self.label_values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge(Metric["prometheus_client.Gauge"]):
    """A value that goes up and down. `multiprocess_mode` says how the values of several processes are aggregated."""

    type = "gauge"

    multiprocess_mode: Literal["livesum", "livemin", "livemax"]

    def inc(self, amount: float = 1) -> None:
        """Increase a gauge without labels."""
        self.labels().inc(amount)

    def dec(self, amount: float = 1) -> None:
        """Decrease a gauge without labels."""
        self.labels().dec(amount)

    def set(self, value: float) -> None:
        """Set a gauge without labels."""
        self.labels().set(value)

    def set_to_current_time(self) -> None:
        """Set a gauge without labels to the current Unix time in seconds."""
        self.labels().set_to_current_time()

    def _create(self) -> "prometheus_client.Gauge":
        import prometheus_client

        return prometheus_client.Gauge(
            self.name, self.help, self.label_values, multiprocess_mode=self.multiprocess_mode
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram(Metric["prometheus_client.Histogram"]):
    """A distribution of durations. `buckets` are upper bounds in seconds."""

    type = "histogram"

    buckets: Sequence[float] = BUCKETS

    def observe(self, seconds: float) -> None:
        """Add an observation to a histogram without labels."""
        self.labels().observe(seconds)

    def _create(self) -> "prometheus_client.Histogram":
        import prometheus_client

        return prometheus_client.Histogram(self.name, self.help, self.label_values, buckets=self.buckets)
