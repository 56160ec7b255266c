"""The station's figures in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edge_ad.errors import MissingDependency
from edge_ad.station.latency import BOUNDS_MS, Histogram

if TYPE_CHECKING:
    from edge_ad.station.station import Station

__all__ = ["CONTENT_TYPE", "metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_EVERY = 5  # buckets of a histogram that make one of Prometheus': 4 a decade are enough to alarm by


def metrics(station: Station) -> bytes:
    """All figures at this moment.

    Raises:
        MissingDependency: prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.registry import Collector
    except ImportError as exc:
        raise MissingDependency("prometheus-client is not installed.", fix="pip install 'edge-ad[station]'") from exc

    class _Figures(Collector):
        def collect(self) -> Iterator[Any]:
            return _families(station)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures())
    return generate_latest(registry)


def _families(station: Station) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    state = station.state()
    up = GaugeMetricFamily("edge_ad_running", "1 while verdicts are given and recorded, 0 otherwise")
    up.add_metric([], float(state["state"] == "running"))
    yield up
    triggers = CounterMetricFamily("edge_ad_triggers", "Triggers accepted since the start", labels=["camera"])
    verdicts = CounterMetricFamily(
        "edge_ad_verdicts", "What triggers ended in since the start", labels=["camera", "verdict"]
    )
    for camera, counts in station.ledger.counts_by_camera().items():
        triggers.add_metric([camera], counts.pop("triggers"))
        counts.pop("open")
        for verdict, count in counts.items():
            verdicts.add_metric([camera, verdict], count)
    yield from (triggers, verdicts)
    yield from _camera_families(state["cameras"])
    seconds = HistogramMetricFamily(
        "edge_ad_stage_seconds", "Time that verdicts took, by stage", labels=["camera", "stage"]
    )
    for camera, stages in station.latencies.histograms().items():
        for stage, histogram in stages.items():
            seconds.add_metric([camera, stage], *_buckets(histogram))
    yield seconds
    waiting = GaugeMetricFamily("edge_ad_publisher_waiting", "Verdicts not delivered yet", labels=["publisher"])
    for publisher in state["publishers"]:
        waiting.add_metric([publisher["name"]], publisher["waiting"])
    yield waiting
    for name, value in state["storage"].items():
        if name in ("images_kept", "images_dropped"):
            yield CounterMetricFamily(f"edge_ad_{name}", "Since the start", value=value)
        else:
            yield GaugeMetricFamily(f"edge_ad_storage_{name}", "Of the record", value=value)


def _camera_families(cameras: list[dict[str, Any]]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    connected = GaugeMetricFamily("edge_ad_camera_connected", "1 while the camera is there", labels=["camera"])
    events = CounterMetricFamily(
        "edge_ad_camera_events", "Frames and faults as the camera counts them", labels=["camera", "event"]
    )
    for camera in cameras:
        connected.add_metric([camera["name"]], float(camera["connected"]))
        for event, count in camera.items():
            if type(count) is int and event != "pending":
                events.add_metric([camera["name"], event], count)
    yield from (connected, events)


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound in seconds, and the sum in seconds."""
    counts, sum_ms = histogram.counts()
    buckets, total = [], 0.0
    for place, count in enumerate(counts):
        total += count
        if place < len(BOUNDS_MS) and place % _EVERY == 0:
            buckets.append((f"{BOUNDS_MS[place] / 1e3:.6g}", total))
    return [*buckets, ("+Inf", total)], sum_ms / 1e3
