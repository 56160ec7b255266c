"""`edge-ad train METHOD DATASET -o RUN`: a method's flags are the fields of its options."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import Any

from edge_ad.training.registry import METHODS

__all__ = ["add_methods", "add_options", "options_from", "run"]


def add_methods(parser: argparse.ArgumentParser) -> None:
    """One subcommand per method."""
    methods = parser.add_subparsers(
        title="methods", required=True, metavar="METHOD", dest="method", parser_class=_MethodParser
    )
    for name, entry in METHODS.items():
        methods.add_parser(name, help=entry.summary, description=f"{entry.summary}.").set_defaults(run=run)


class _MethodParser(argparse.ArgumentParser):
    """Adds its arguments when it is chosen: options come with a method's torch code, which listing does not need."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.add_argument(
            "dataset",
            type=Path,
            help="data set: a folder (MVTec, BTAD, VisA, ...), a plain folder of images of good parts, or a csv list",
        )
        self.add_argument("--normal-class", metavar="NAME", help="learn from this class alone (default: good)")
        self.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="folder of the run")
        self.add_argument("--json", action="store_true", help="print the run's record as JSON")
        add_options(self.add_argument_group("options of the method"), self.prog.split()[-1])
        return super().parse_known_args(args, namespace)


def add_options(group: Any, method: str) -> None:
    """The fields of a method's options as arguments of an argparse parser, or of a group of one."""
    options = METHODS[method].load().options
    types = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        _add_option(group, field, types[field.name])


def _add_option(group: Any, field: dataclasses.Field[Any], kind: Any) -> None:
    flag = f"--{field.name.replace('_', '-')}"
    default = field.default
    meaning = field.metadata["help"]
    if kind is bool:
        group.add_argument(
            flag,
            action=argparse.BooleanOptionalAction,
            default=default,
            help=f"{meaning} (default: {'yes' if default else 'no'})",
        )
        return
    several = typing.get_origin(kind) is tuple
    base = next(one for one in (typing.get_args(kind) or (kind,)) if one not in (type(None), Ellipsis))
    shown = " ".join(str(value) for value in default) if several else default
    group.add_argument(
        flag,
        type=base if base in (Path, str) else _number(base),
        nargs="+" if several else None,
        default=default,
        choices=field.metadata["choices"],
        metavar=field.metadata["metavar"] or (None if field.metadata["choices"] else base.__name__.upper()),
        help=meaning if default is None else f"{meaning} (default: {shown})",
    )


def _number(base: type) -> Any:
    def parse(text: str) -> Any:
        try:
            value = base(text)
        except ValueError:
            value = -1
        if not value >= 0 or value == float("inf"):
            kind = "a whole number" if base is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind} from 0 up")
        return value

    return parse


def options_from(method: str, arguments: argparse.Namespace) -> Any:
    """The options a parsed command line asks for."""
    options = METHODS[method].load().options
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(options)}
    return options(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def run(arguments: argparse.Namespace) -> int:
    """Train, and say what comes next."""
    from edge_ad.training.train import train

    options = options_from(arguments.method, arguments)
    if getattr(options, "penalty_images", "") is None:
        print("note: no --penalty-images, so the student is trained without the pretraining penalty", file=sys.stderr)
    folder = train(arguments.method, arguments.dataset, arguments.output, options, normal_class=arguments.normal_class)
    record = json.loads((folder / "run.json").read_text())
    if arguments.json:
        print(json.dumps({key: value for key, value in record.items() if key != "training_hashes"}, indent=2))
    else:
        print(f"{folder}: {arguments.method} trained on {len(record['training_hashes'])} images")
        print(f"next: edge-ad export {folder} -o {folder.name}.bundle")
    return 0
