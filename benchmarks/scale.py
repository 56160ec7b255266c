"""What more costs: frames in a batch, pixels of the camera, cameras at once, recipes, tiles, folders of images.

One method, with random weights, in one precision on one backend. What is compared takes turns, after a round that does
not count, and figures are medians over the rounds. Preprocessing is what a frame costs beyond one of the network's own
size, which needs no resize. Cameras at once have an Inspector and a thread each, and share the cores. Recipes are
further Inspectors in a process of their own; each has given a verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.plots import draw_scale
from benchmarks.speed import options_of
from edge_ad import Bundle, Inspector, TiledInspector
from edge_ad.cameras import ImageFiles
from edge_ad.progress import Progress
from edge_ad.report.machine import describe_machine
from edge_ad.training.registry import METHODS
from edge_ad.verdicts import inspect_files

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        batches: Frames in one run of the graph.
        cameras: (height, width), beside the network's own size.
        at_once: Cameras of the network's own size.
        recipes: Inspectors in one process, at most.
        frames: (height, width) of the frames that are cut into tiles.
        images: In the folder, of the last camera's size.
        rounds: That count.
    """

    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    cameras: tuple[Size, ...] = ((480, 640), (1024, 1280), (1200, 1920))
    at_once: tuple[int, ...] = (1, 2, 4, 8)
    recipes: int = 5
    frames: tuple[Size, ...] = ((2160, 3840), (448, 12288))
    images: int = 24
    rounds: int = 4


QUICK = Plan(
    batches=(1, 8), cameras=((1200, 1920),), at_once=(1, 4), recipes=3, frames=((448, 1216),), images=8, rounds=3
)

RESIDENT = """
import json, sys
from pathlib import Path
import numpy as np
from edge_ad import Inspector
def resident_mb():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1024, 1)
resident, kept = [resident_mb()], []
for _ in range(int(sys.argv[4])):
    kept.append(Inspector(sys.argv[1], precision=sys.argv[2], backend=sys.argv[3]))
    kept[-1].inspect(np.zeros((*kept[-1].size, 3), np.uint8))
    resident.append(resident_mb())
print(json.dumps(resident))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="efficientad-s", choices=tuple(METHODS), help="(default: efficientad-s)")
    parser.add_argument(
        "--backend", default="auto", choices=("auto", "openvino", "onnxruntime"), help="(default: auto)"
    )
    parser.add_argument("--precision", default="int8", choices=("int8", "fp32"), help="(default: int8)")
    parser.add_argument("--quick", action="store_true", help="fewer of everything: about a minute")


def result_name(arguments: argparse.Namespace) -> str:
    return f"scale-{arguments.method}{'-quick' if arguments.quick else ''}"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """A table for each of the six, and a picture."""
    plan = QUICK if arguments.quick else Plan()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        bundles = _bundles(arguments, plan, Path(name))

        def open_inspector(bundle: Bundle, threads: int | None = None) -> Inspector:
            inspector = Inspector(bundle, precision=arguments.precision, backend=arguments.backend, threads=threads)
            return opened.enter_context(inspector)

        inspectors = [open_inspector(bundle) for bundle in bundles]
        one_core = [open_inspector(bundles[-1], threads=1) for _ in range(os.cpu_count() or 1)]
        backend = inspectors[0].backend
        with Progress("scale", 5) as progress:
            batches = _batches(inspectors[0], plan)
            progress.step()
            cameras = _cameras(inspectors, plan)
            progress.step()
            at_once = _at_once(lambda threads: open_inspector(bundles[0], threads), plan)
            progress.step()
            tiles = _tiles(inspectors[0], plan)
            progress.step()
            folder = _folder(inspectors[-1], one_core, plan, Path(name) / "images")
            progress.step()
        resident = _resident(bundles[0], arguments.precision, backend.partition("-")[0], plan.recipes)
    result = {
        "machine": describe_machine(),
        "load_before": round(load, 2),
        "method": arguments.method,
        "precision": arguments.precision,
        "backend": backend,
        "weights": "random",
        "rounds": plan.rounds,
        "batches": batches,
        "cameras": cameras,
        "at_once": at_once,
        "recipes": resident,
        "tiles": tiles,
        "folder": folder,
    }
    draw_scale(arguments.results / f"{result_name(arguments)}.svg", result)
    return result


def _bundles(arguments: argparse.Namespace, plan: Plan, folder: Path) -> list[Bundle]:
    """One for the network's own size, and one for each camera."""
    from benchmarks.random_bundle import bundle_of_graph, drawn_frames, graph_of, random_network

    bundles = []
    with Progress("bundles", 1 + len(plan.cameras)) as progress:
        for camera in (None, *plan.cameras):
            network = random_network(arguments.method, camera, **options_of(arguments.method))
            path = folder / f"{len(bundles)}.bundle"
            frames = drawn_frames(network.camera)
            bundles.append(bundle_of_graph(path, arguments.method, graph_of(network), frames, (arguments.precision,)))
            progress.step()
    return bundles


def _noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def _in_turns(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, A B A B, without the first round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + rounds):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def _batches(inspector: Inspector, plan: Plan) -> list[dict[str, Any]]:
    frames = {count: _noise(count, *inspector.size) for count in plan.batches}
    seconds = _in_turns(
        {str(count): lambda batch=batch: inspector.inspect_batch(list(batch)) for count, batch in frames.items()},
        plan.rounds,
    )
    return [{"batch": count, "ms_per_frame": round(1e3 * seconds[str(count)] / count, 2)} for count in frames]


def _cameras(inspectors: Sequence[Inspector], plan: Plan) -> list[dict[str, Any]]:
    frames = [_noise(*inspector.size) for inspector in inspectors]
    works = {
        str(index): lambda inspector=inspector, frame=frame: [inspector.inspect(frame) for _ in range(4)]
        for index, (inspector, frame) in enumerate(zip(inspectors, frames, strict=True))
    }
    milliseconds = [1e3 * taken / 4 for taken in _in_turns(works, plan.rounds).values()]
    return [
        {
            "camera": list(inspector.size),
            "ms": round(taken, 2),
            "preprocessing_share": round(1 - milliseconds[0] / taken, 3),
        }
        for inspector, taken in zip(inspectors, milliseconds, strict=True)
    ]


def _at_once(open_inspector: Callable[[int], Inspector], plan: Plan) -> list[dict[str, Any]]:
    """Every camera triggers again as soon as it has its verdict."""
    cores, frames_each = os.cpu_count() or 1, 8
    taken: dict[int, list[float]] = {count: [] for count in plan.at_once}
    works: dict[str, Callable[[], object]] = {}
    for count in plan.at_once:
        inspectors = [open_inspector(max(1, cores // count)) for _ in range(count)]

        def work(inspectors: Sequence[Inspector] = inspectors, taken: list[float] = taken[count]) -> None:
            with ThreadPoolExecutor(len(inspectors)) as pool:
                for seconds in pool.map(lambda inspector: _verdict_seconds(inspector, frames_each), inspectors):
                    taken += seconds

        works[str(count)] = work
    seconds = _in_turns(works, plan.rounds)
    rows = []
    for count in plan.at_once:
        counted = sorted(taken[count][count * frames_each :])
        rows.append(
            {
                "cameras": count,
                "images_per_s": round(count * frames_each / seconds[str(count)], 2),
                "p50_ms": round(1e3 * statistics.median(counted), 2),
                "worst_ms": round(1e3 * counted[-1], 2),
            }
        )
    return rows


def _verdict_seconds(inspector: Inspector, count: int) -> list[float]:
    frame, seconds = _noise(*inspector.size), []
    for _ in range(count):
        start = time.perf_counter()
        inspector.inspect(frame)
        seconds.append(time.perf_counter() - start)
    return seconds


def _tiles(inspector: Inspector, plan: Plan) -> list[dict[str, Any]]:
    tiled, alone = TiledInspector(inspector), _noise(*inspector.size)
    rows = []
    for size in plan.frames:
        frame = _noise(*size)
        tiles = tiled.inspect(frame).tiles
        works = {
            "tiled": lambda frame=frame: tiled.inspect(frame),
            "bare": lambda tiles=tiles: [inspector.inspect(alone) for _ in range(tiles)],
        }
        seconds = _in_turns(works, 1)
        rows.append(
            {
                "frame": list(size),
                "tiles": tiles,
                "seconds": round(seconds["tiled"], 2),
                "megapixels_per_s": round(size[0] * size[1] / 1e6 / seconds["tiled"], 3),
                "over_bare_tiles": round(seconds["tiled"] / seconds["bare"], 3),
            }
        )
    return rows


def _folder(inspector: Inspector, one_core: Sequence[Inspector], plan: Plan, folder: Path) -> dict[str, Any]:
    from benchmarks.random_bundle import drawn_frames

    frames = drawn_frames(inspector.size)
    folder.mkdir()
    for number in range(plan.images):
        cv2.imwrite(str(folder / f"{number}.png"), frames[number % len(frames)])
    files, cores = ImageFiles.of_folder(folder), os.cpu_count() or 1
    numbers = range(files.total)
    works: dict[str, Callable[[], object]] = {
        "frames in memory": lambda: [inspector.inspect(frames[number % len(frames)]) for number in numbers],
        "one after the other": lambda: [inspector.inspect(frame) for frame in files],
        "read ahead": lambda: list(inspect_files(files, [inspector.inspect], None, max(2, cores))),
        "edge-ad inspect": lambda: list(inspect_files(files, [one.inspect for one in one_core], None, max(2, cores))),
    }
    seconds = _in_turns(works, plan.rounds)
    return {
        "camera": list(inspector.size),
        "images": files.total,
        "images_per_s": {name: round(files.total / taken, 2) for name, taken in seconds.items()},
    }


def _resident(bundle: Bundle, precision: str, backend: str, recipes: int) -> dict[str, Any]:
    command = [sys.executable, "-c", RESIDENT, str(bundle.path), precision, backend, str(recipes)]
    resident = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    further = [after - before for before, after in pairwise(resident[1:])]
    return {
        "graph_mb": round(len(bundle.read(bundle.precision(precision).graph)) / 2**20, 1),
        "resident_mb": resident,
        "mb_per_further_recipe": round(statistics.mean(further), 1),
    }


def as_text(result: dict[str, Any]) -> str:
    """Markdown: a table for each of the six."""
    machine, recipes, folder = result["machine"], result["recipes"], result["folder"]
    rates = folder["images_per_s"]
    lines = [
        f"# What more costs: {result['method']}",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {result['precision']} on "
        f"{result['backend']}, {result['weights']} weights; medians of {result['rounds']} rounds, load "
        f"{result['load_before']:g} before.",
        *_table("Frames in a batch", ("batch", "ms a frame"), [list(row.values()) for row in result["batches"]]),
        *_table(
            "Pixels of the camera",
            ("camera", "ms a frame", "of it preprocessing"),
            [[_size(row["camera"]), row["ms"], f"{row['preprocessing_share']:.1%}"] for row in result["cameras"]],
        ),
        *_table(
            "Cameras at once",
            ("cameras", "images/s in all", "ms a verdict, p50", "worst"),
            [list(row.values()) for row in result["at_once"]],
        ),
        *_table(
            "Recipes in one process",
            ("inspectors", "resident MB"),
            [[count, resident] for count, resident in enumerate(recipes["resident_mb"])],
        ),
        "",
        f"{recipes['mb_per_further_recipe']:g} MB for each further one, of a graph of {recipes['graph_mb']:g} MB.",
        *_table(
            "Large frames in tiles",
            ("frame", "tiles", "s", "megapixels/s", "time over that of the tiles alone"),
            [[_size(row["frame"]), *list(row.values())[1:]] for row in result["tiles"]],
        ),
        *_table(
            f"A folder of {folder['images']} PNG files of {_size(folder['camera'])}",
            ("", "images/s", "of frames in memory"),
            [[name, rate, f"{rate / rates['frames in memory']:.1%}"] for name, rate in rates.items()],
        ),
    ]
    return "\n".join(lines)


def _size(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["", f"## {title}", "", *(f"| {' | '.join(map(str, row))} |" for row in cells)]
