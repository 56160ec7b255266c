"""`edge-ad`: one command, from a folder of good parts to verdicts. Each command imports what it needs itself."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_ad import __version__
from edge_ad.errors import EdgeAdError

__all__ = ["main"]

EPILOG = """a first bundle from a folder of good parts:
  edge-ad train simplenet parts/ -o runs/parts
  edge-ad export runs/parts -o parts.bundle
  edge-ad calibrate parts.bundle --images good_parts/
  edge-ad build parts.bundle --target sm89
  edge-ad inspect parts.bundle new_parts/ --save overlays/
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 when it did its job, 1 when it failed. argparse exits with 2 on wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        return status
    except EdgeAdError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(_missing(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has left, for example `| head`
        sys.stderr.close()
        return 1


def _missing(error: ImportError) -> str:
    return (
        f"MissingDependency: {error.name or error} is not installed.\n"
        "  expected: the packages of this command's extra\n"
        "  fix:      pip install 'edge-ad[train,build,tensorrt]'"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-ad",
        description="Visual anomaly detection at the edge: train, export the one graph, calibrate, build, inspect.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-ad {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_distill(commands)
    _add_distill_patches(commands)
    _add_export(commands)
    _add_calibrate(commands)
    _add_build(commands)
    _add_inspect(commands)
    _add_camera(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_station(commands)
    _add_history(commands)
    _add_verify(commands)
    _add_doctor(commands)
    _add_demo(commands)
    return parser


def _command(commands: Any, name: str, summary: str, run: Any, description: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description or f"{summary[0].upper()}{summary[1:]}."
    )
    parser.set_defaults(run=run)
    return parser


def _camera(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and 32 <= int(height) <= 16384 and 32 <= int(width) <= 16384):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH in pixels, for example 1200x1920")
    return int(height), int(width)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


# --- train -------------------------------------------------------------------------------------------------------


def _add_train(commands: Any) -> None:
    from edge_ad.training.cli import add_methods

    parser = commands.add_parser(
        "train",
        help="fit a published method to images of good parts",
        description="Fit a published method to images of good parts. Running the same command again resumes.",
        epilog="edge-ad train METHOD --help shows the method's options, with the paper's defaults.",
    )
    add_methods(parser)


def _add_distill(commands: Any) -> None:
    parser = _command(
        commands, "distill", "distil a PDN teacher from ImageNet features", _distill, _DISTILL_DESCRIPTION
    )
    parser.add_argument("images", type=Path, help="folder (of folders) of natural images, such as ImageNet")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder of the run")
    parser.add_argument(
        "--student", default="pdn-s", choices=("pdn-s", "pdn-m"), help="the network to teach (default: pdn-s)"
    )
    parser.add_argument(
        "--grow-from", type=Path, metavar="FILE", help="start a pdn-m as the function of this PDN-S (Net2Net)"
    )
    parser.add_argument(
        "--backbone",
        default="resnet18",
        choices=("resnet18", "resnet50", "wide_resnet50_2", "wide_resnet101_2"),
        help="whose features to learn; the paper's is wide_resnet101_2 (default: resnet18)",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="torchvision checkpoint of the backbone")
    parser.add_argument("--steps", type=_positive, default=4200, help="(default: 4,200; the paper: 60,000)")
    parser.add_argument("--batch", type=_positive, default=4, help="images a step (default: 4; the paper: 16)")
    parser.add_argument(
        "--window",
        type=_positive,
        default=256,
        metavar="PIXELS",
        help="side of the part that the student sees of each crop of 256 x 256 (default: 256; smaller is faster)",
    )
    parser.add_argument(
        "--peak-learning-rate", type=float, default=1e-3, metavar="RATE", help="(default: 0.001; the paper: 0.0001)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")


_DISTILL_DESCRIPTION = """Distil a PDN-S or PDN-M teacher from ImageNet features (EfficientAD, sec. 3.1). Uses the GPU
if there is one. Running the same command again resumes. `edge-ad train efficientad-s --teacher
FOLDER/teacher.safetensors` uses a PDN-S, `edge-ad train efficientad-m` likewise a PDN-M."""


def _distill(arguments: argparse.Namespace) -> int:
    from edge_ad.training.distill import DistillOptions, distill

    names = ["images", "output", "student", "grow_from", "backbone", "weights", "window"]
    names += ["steps", "batch", "peak_learning_rate", "seed"]
    print(distill(DistillOptions(**{name: getattr(arguments, name) for name in names})))
    return 0


def _add_distill_patches(commands: Any) -> None:
    from edge_ad.training.patch_cli import DESCRIPTION, add_arguments, run

    add_arguments(_command(commands, "distill-patches", "train a teacher of patch descriptors", run, DESCRIPTION))


# --- bundles -----------------------------------------------------------------------------------------------------


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", "turn a run into a bundle with the one graph", _export)
    parser.add_argument("training_run", type=Path, metavar="RUN", help="folder that `edge-ad train` made")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BUNDLE", help="bundle directory to write")
    parser.add_argument(
        "--camera",
        type=_camera,
        metavar="HEIGHTxWIDTH",
        help="size of the frames the graph takes (default: the size of the training images)",
    )
    parser.add_argument(
        "--region",
        type=Path,
        metavar="IMAGE",
        help="the region of interest, an image of the camera's size that is black where nothing matters: anomalies are "
        "looked for in the rest alone, and what only the black needed is not computed",
    )
    parser.add_argument("--force", action="store_true", help="replace a bundle that is already there")
    parser.add_argument("--json", action="store_true", help="print the manifest's precisions as JSON")


def _export(arguments: argparse.Namespace) -> int:
    from edge_ad.training.export import export

    options = {name: getattr(arguments, name) for name in ("camera", "region", "force")}
    bundle = export(arguments.training_run, arguments.output, **options)
    size, entry = bundle.manifest.input, bundle.precision("fp32")
    if arguments.json:
        print(json.dumps({"bundle": str(bundle.path), "input": vars(size), "fp32": vars(entry)}, indent=2))
    else:
        print(f"{bundle.path}: {bundle.manifest.method} for {size.height}x{size.width} frames")
        macs = {form: count / 1e9 for form, count in bundle.manifest.provenance["macs"].items()}
        print(f"{macs['exported']:.2f} GMAC a frame, {macs['as_written']:.2f} as the network is written")
        if region := bundle.manifest.provenance.get("region_of_interest"):
            print(f"looks at {region['share']:.0%} of the frame")
        print(f"threshold {entry.threshold:.4g} from {entry.normal_images} held-out images")
        print(f"next: edge-ad calibrate {bundle.path} --images FOLDER")
    return 0


def _add_calibrate(commands: Any) -> None:
    import calibration

    parser = _command(commands, "calibrate", "make FP16 and INT8 graphs from normal images", calibration.run)
    calibration.add_arguments(parser)


def _add_build(commands: Any) -> None:
    import build_engines

    parser = _command(commands, "build", "compile TensorRT engines for named GPUs", build_engines.run)
    build_engines.add_arguments(parser)


def _add_runtime_options(parser: argparse.ArgumentParser) -> None:
    from edge_ad.backends import BACKENDS
    from edge_ad.manifest import PRECISIONS

    parser.add_argument("--precision", default="auto", choices=("auto", *PRECISIONS), help="(default: auto)")
    parser.add_argument("--backend", default="auto", choices=("auto", *BACKENDS), help="(default: auto)")


def _add_inspect(commands: Any) -> None:
    parser = _command(commands, "inspect", "give verdicts on images, a video or a camera", _inspect)
    parser.add_argument("bundle", type=Path, help="bundle directory")
    parser.add_argument("source", help="image, folder of images, video or camera, at the bundle's camera size")
    parser.add_argument("--tiled", action="store_true", help="cut larger frames into tiles of the bundle's camera size")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write an overlay of every frame")
    _add_runtime_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _inspect(arguments: argparse.Namespace) -> int:
    from edge_ad.verdicts import run

    return run(arguments)


def _add_camera(commands: Any) -> None:
    from edge_ad.cameras.cli import add_look_arguments, list_cameras, look

    add_look_arguments(_command(commands, "camera", "take some frames of a camera and say what came", look))
    parser = _command(commands, "cameras", "list the cameras that answer, with their URIs", list_cameras)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", "measure accuracy and latency on a labelled data set", _evaluate)
    parser.add_argument("bundle", type=Path, help="bundle directory")
    parser.add_argument(
        "dataset", type=Path, help="data set with test images: a folder (MVTec, BTAD, VisA, ...) or a csv list"
    )
    parser.add_argument("--normal-class", metavar="NAME", help="the class of good parts (default: good)")
    _add_runtime_options(parser)
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")


def _evaluate(arguments: argparse.Namespace) -> int:
    from edge_ad.inspector import Inspector
    from edge_ad.training.dataset import open_dataset
    from edge_ad.training.evaluate import evaluate

    dataset = open_dataset(arguments.dataset, arguments.normal_class)
    with Inspector(arguments.bundle, precision=arguments.precision, backend=arguments.backend) as inspector:
        evaluation = evaluate(inspector.answer, dataset, inspector.size, "evaluating")
        row = {"precision": inspector.precision, "backend": inspector.backend, "threshold": inspector.threshold}
        rejected = [score > inspector.threshold for score in evaluation.scores]
    row |= {key: value for key, value in dataclasses.asdict(evaluation).items() if key != "scores"}
    defective = [item.is_defective for item in dataset.test]
    row["false_rejects"] = sum(r and not d for r, d in zip(rejected, defective, strict=True))
    row["missed_defects"] = sum(d and not r for r, d in zip(rejected, defective, strict=True))
    print(json.dumps(row, indent=2) if arguments.json else _figures(row))
    return 0


def _figures(row: dict[str, Any]) -> str:
    """A line per figure, with its 95 % interval where it has one, and one per type of defect."""
    lines = []
    for key, value in row.items():
        if key in ("intervals", "per_defect"):
            continue
        interval = "  [{:.4f}, {:.4f}]".format(*row["intervals"][key]) if key in row["intervals"] else ""
        lines.append(f"{key:<24}{_shown(value)}{interval}")
    lines.append("[low, high]: 95 % bootstrap interval over the test images")
    for defect, figures in row["per_defect"].items():
        known = ", ".join(f"{key} {_shown(value)}" for key, value in figures.items() if value is not None)
        lines.append(f"  {defect}: {known}")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if value is None:
        return "not defined on this data set"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _add_compare(commands: Any) -> None:
    from edge_ad.compare.cli import add_arguments, run

    parser = _command(
        commands, "compare", "train, deploy and judge methods side by side, on one page", run, _COMPARE_DESCRIPTION
    )
    add_arguments(parser)


_COMPARE_DESCRIPTION = """Train, export, quantise and judge methods on the same test images, and write one page. Running
the same command again resumes: what is finished is not done again. A method that fails does not stop the others; the
page says why it failed, and the exit code is 1."""


def _add_verify(commands: Any) -> None:
    parser = _command(commands, "verify", "prove a bundle: hashes, then golden vectors in each engine", _verify)
    parser.add_argument("bundle", type=Path, help="bundle directory")
    parser.add_argument("--json", action="store_true", help="print one row per precision and engine as JSON")


def _verify(arguments: argparse.Namespace) -> int:
    from edge_ad.verify import verify

    rows = verify(arguments.bundle)
    if arguments.json:
        print(json.dumps([vars(row) for row in rows], indent=2))
    else:
        print(f"{arguments.bundle}: every file is the one the manifest describes")
        width = max(len(row.engine or row.backend) for row in rows)
        for row in rows:
            state = {True: "ok", False: "FAILED", None: "not run"}[row.ok]
            print(f"  {row.precision}  {row.engine or row.backend:<{width}}  {state:<7}  {row.reason or row.errors}")
    return 1 if any(row.ok is False for row in rows) else 0


# --- the station -------------------------------------------------------------------------------------------------


def _add_station(commands: Any) -> None:
    from edge_ad.station.cli import add_station_arguments, run_station

    add_station_arguments(_command(commands, "station", "run a line's cameras, for months", run_station))


def _add_history(commands: Any) -> None:
    from edge_ad.station.cli import add_history_arguments, run_history

    summary = "ask a station's record, export it, judge its parts again"
    add_history_arguments(_command(commands, "history", summary, run_history))


# --- the machine and the demo ------------------------------------------------------------------------------------


def _add_doctor(commands: Any) -> None:
    parser = _command(commands, "doctor", "say what this machine can run, and what would mend the rest", _doctor)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _doctor(arguments: argparse.Namespace) -> int:
    from edge_ad.doctor import examine

    findings = examine()
    if arguments.json:
        print(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'yes' if finding.works else 'no':<4} {finding.what:<44} {finding.detail}")
            if finding.fix:
                print(f"     fix: {finding.fix}")
    return 0 if all(finding.works for finding in findings if finding.required) else 1


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", "the whole way on drawn parts: train to report.html", _demo)
    parser.add_argument("-o", "--output", type=Path, default=Path("demo_output"), help="(default: demo_output)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")


def _demo(arguments: argparse.Namespace) -> int:
    from edge_ad.demo.run import run_demo

    print(run_demo(arguments.output, seed=arguments.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
