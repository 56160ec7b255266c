"""Results as pictures: SVG that reads on light and on dark pages, the same bytes from the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_ad.compare.findings import Row

__all__ = ["draw_accuracy", "draw_scale"]

INK = "#768390"  # legible on white and on black
OURS = "#1a7f5a"
METHODS = {
    "simplenet": "#2f81f7",
    "supersimplenet": OURS,
    "efficientad-s": "#d29922",
    "efficientad-m": "#bc4c00",
    "cutpaste": "#8957e5",
    "uninformed-students": "#db61a2",
}
STYLE = {
    "svg.hashsalt": "edge_ad",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    **dict.fromkeys(
        ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"], INK
    ),
}


def draw_accuracy(path: Path, datasets: Mapping[str, Mapping[str, Any]]) -> None:
    """Image AUROC, with its 95 % interval, over latency: a panel per data set, float32 hollow, INT8 filled.

    Args:
        datasets: By name, what `benchmarks.accuracy.measure` gives; of none there is no picture.
    """
    if not datasets:
        return
    with _figure(path, len(datasets), 4.2) as panels:
        for panel, (name, found) in zip(panels, datasets.items(), strict=True):
            _accuracy_panel(panel, name, found["rows"])
        panels[0].set_ylabel("image AUROC")
        for label, filled in (("float32", "none"), ("INT8", INK)):
            panels[0].plot([], [], "o", color=INK, markerfacecolor=filled, label=label)
        labelled = [panel.get_legend_handles_labels() for panel in panels]
        keys = {label: handle for handles, labels in labelled for handle, label in zip(handles, labels, strict=True)}
        panels[0].figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=4)


def _accuracy_panel(panel: Any, name: str, rows: Sequence[Row]) -> None:
    for method in dict.fromkeys(row.method for row in rows):
        of_method = [row for row in rows if row.method == method]
        colour = METHODS.get(method, INK)
        panel.plot(
            [row.latency_p50_ms for row in of_method],
            [row.image_auroc for row in of_method],
            color=colour,
            alpha=0.5,
        )
        for row in of_method:
            low, high = row.intervals["image_auroc"]
            panel.errorbar(
                row.latency_p50_ms,
                row.image_auroc,
                [[row.image_auroc - low], [high - row.image_auroc]],
                marker="o",
                color=colour,
                markerfacecolor="none" if row.precision == "fp32" else colour,
                elinewidth=0.8,
                capsize=2,
                linestyle="none",
                label=method if row.precision == "int8" else None,
            )
    panel.set_xscale("log")
    panel.set_xlabel("latency, ms")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_title(name, fontsize=11, color=INK)


def draw_scale(path: Path, result: Mapping[str, Any]) -> None:
    """What more costs, as `benchmarks.scale.measure` gives it: batch, resolution, cameras at once, recipes."""
    at_once, recipes = result["at_once"], result["recipes"]["resident_mb"]
    sizes = [row["camera"][0] * row["camera"][1] / 1e6 for row in result["cameras"]]
    with _figure(path, 4, 2.8) as (batch, resolution, cameras, memory):
        _line(batch, [row["batch"] for row in result["batches"]], [row["ms_per_frame"] for row in result["batches"]])
        batch.set(xlabel="frames in a batch", ylabel="ms a frame", title="Batch")
        _line(resolution, sizes, [row["ms"] for row in result["cameras"]])
        resolution.set(xlabel="megapixels of the camera", ylabel="ms a frame", title="Resolution")
        _line(cameras, [row["cameras"] for row in at_once], [row["images_per_s"] for row in at_once])
        cameras.set(xlabel="cameras at once", ylabel="images a second, in all", title="Cameras")
        _line(memory, list(range(len(recipes))), recipes)
        memory.set(xlabel="recipes in one process", ylabel="resident MB", title="Recipes")


def _line(panel: Any, across: Sequence[float], up: Sequence[float]) -> None:
    panel.plot(across, up, marker="o", markersize=4, color=OURS)
    panel.set_ylim(0, 1.15 * max(up))
    panel.set_xlim(left=0)


@contextmanager
def _figure(path: Path, panels: int, height: float) -> Any:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * panels, height), layout="constrained")
        yield figure.subplots(1, panels, squeeze=False)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, transparent=True, metadata={"Date": None})
