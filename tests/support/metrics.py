"""Reading a scrape as Prometheus does."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]

SECONDS = 10


@dataclass(frozen=True)
class Scrape:
    """What a process exposes at one moment."""

    text: str

    @cached_property
    def samples(self) -> Mapping[str, Mapping[Labels, float]]:
        """Name -> labels -> value, of every sample."""
        found: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(self.text):
            found.setdefault(family.name, {})
            for sample in family.samples:
                labels = frozenset(sample.labels.items())
                assert labels not in found.setdefault(sample.name, {}), "a sample occurs twice"
                found[sample.name][labels] = sample.value
        return found

    @cached_property
    def names(self) -> set[str]:
        """The metrics, as their TYPE lines name them."""
        return {line.split()[2] for line in self.text.splitlines() if line.startswith("# TYPE ")}

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 where there is none."""
        return self.samples.get(name, {}).get(frozenset(labels.items()), 0)

    def counted(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Every sample of a name that is not 0, by its values of these labels, which tell them all apart."""
        found = [(dict(of), value) for of, value in self.samples.get(name, {}).items() if value]
        values = {tuple(of[each] for each in labels): value for of, value in found}
        assert len(values) == len(found)
        return values

    def since(self, before: "Scrape", name: str, **labels: str) -> float:
        """By how much a sample has grown."""
        return self.value(name, **labels) - before.value(name, **labels)


def here() -> Scrape:
    """What the process that the tests run in exposes: tests before have counted in it."""
    return Scrape(generate_latest(REGISTRY).decode())


def scrape(address: str) -> Scrape:
    """What the process, or the processes, behind an address expose."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=SECONDS) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return Scrape(answer.read().decode())
