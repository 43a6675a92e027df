"""Readings in the forms that Prometheus reads; the one file that imports its library, imported when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ._counts import BUCKETS, Histogram
from ._readings import METRICS, Metric, Readings

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_BOUNDS = (*(str(bound) for bound in BUCKETS), "+Inf")


def exposition(read: Mapping[str, Readings], accept: str) -> tuple[bytes, str]:
    """All readings in the form that ``accept`` prefers, and its content type.

    Args:
        read: The readings by the name of the worker; an empty name, of a process that is alone, is no label.
        accept: The header of that name.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(read))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    def __init__(self, read: Mapping[str, Readings]) -> None:
        self._read = read

    def collect(self) -> Iterable[Family]:
        return _families(self._read)


def _families(read: Mapping[str, Readings]) -> Iterator[Family]:
    kinds: dict[str, Callable[[Metric, list[str]], Family]] = {
        "counter": lambda metric, labels: CounterMetricFamily(metric.name, metric.meaning, labels=labels),
        "gauge": lambda metric, labels: GaugeMetricFamily(metric.name, metric.meaning, labels=labels),
        "histogram": lambda metric, labels: HistogramMetricFamily(metric.name, metric.meaning, labels=labels),
    }
    label = ["worker"] if any(read) else []
    for metric in METRICS:
        family = kinds[metric.type](metric, [*metric.labels, *label])
        for worker, values in read.items():
            for key, value in values.get(metric.name, {}).items():
                labels = [*key, worker] if worker else list(key)
                if isinstance(family, HistogramMetricFamily):
                    assert isinstance(value, Histogram)  # noqa: S101 - the table says so
                    buckets = list(zip(_BOUNDS, value.cumulated(), strict=True))
                    family.add_metric(labels, buckets, value.sum)
                else:
                    assert not isinstance(value, Histogram)  # noqa: S101 - as above
                    family.add_metric(labels, value)
        if family.samples:
            yield family
