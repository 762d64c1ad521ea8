"""Reading metrics as Prometheus does."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Scrape:
    """The text exposition of a process at one moment."""

    text: str

    @cached_property
    def samples(self) -> Mapping[str, Mapping[Labels, float]]:
        """Every sample: name -> labels -> value."""
        samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(self.text):
            samples.setdefault(family.name, {})
            for sample in family.samples:
                labels = frozenset(sample.labels.items())
                assert labels not in samples.setdefault(sample.name, {}), "duplicate sample"
                samples[sample.name][labels] = sample.value
        return samples

    @cached_property
    def names(self) -> set[str]:
        """The names of the metrics, from their TYPE lines."""
        return {line.split()[2] for line in self.text.splitlines() if line.startswith("# TYPE ")}

    def value(self, name: str, **labels: str) -> float:
        """Return the value of a sample; 0 if there is none."""
        return self.samples.get(name, {}).get(frozenset(labels.items()), 0)

    def nonzero(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return every sample of a name that is not 0, keyed by its values of these labels, which must be unique."""
        samples = [(dict(of), value) for of, value in self.samples.get(name, {}).items() if value]
        values = {tuple(of[label] for label in labels): value for of, value in samples}
        assert len(values) == len(samples)
        return values

    def increase(self, before: "Scrape", name: str, **labels: str) -> float:
        """Return the increase of a sample since an earlier scrape."""
        return self.value(name, **labels) - before.value(name, **labels)


def scrape_tests() -> Scrape:
    """Return the metrics of this process. They include those of earlier tests."""
    return Scrape(generate_latest(REGISTRY).decode())


def scrape(address: str) -> Scrape:
    """Return the metrics of the process, or of the processes, at an address."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=TIMEOUT_SECONDS) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return Scrape(response.read().decode())
