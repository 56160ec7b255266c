"""Who is compared: methods, the options they are trained with, and the folders of their runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from edge_ad.errors import TrainingError
from edge_ad.training.cli import add_options
from edge_ad.training.registry import METHODS

__all__ = ["Contender", "changed_options", "chosen_methods", "contenders", "option_names", "parse_settings"]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One method of a comparison.

    Attributes:
        run: Folder of its run: a finished one is taken as it is, an unfinished one resumes, a new one is trained.
        settings: Options by name, where they are not to be the method's defaults.
    """

    method: str
    run: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bundle(self) -> Path:
        """Where its bundle goes, beside the run."""
        return self.run.with_name(self.run.name + ".bundle")


def chosen_methods(names: Sequence[str]) -> list[str]:
    """The names without repetition; "all" is every method."""
    return list(METHODS) if "all" in names else list(dict.fromkeys(names))


def contenders(
    methods: Sequence[str], folder: Path, settings: Mapping[str, Mapping[str, Any]], suffix: str = ""
) -> list[Contender]:
    """One contender per method, with its run in `folder`/METHOD`suffix`."""
    return [
        Contender(method=method, run=folder / f"{method}{suffix}", settings=settings.get(method, {}))
        for method in methods
    ]


def parse_settings(texts: Iterable[str], methods: Sequence[str], steps: int | None = None) -> dict[str, dict[str, Any]]:
    """`METHOD.OPTION=VALUE` texts as options by method; values are checked as `edge-ad train METHOD` checks them.

    Args:
        methods: Those that are compared.
        steps: For every method that trains in steps and has none of its own among `texts`.

    Raises:
        TrainingError: A text that is no setting, another method, an option it does not have, or a wrong value.
    """
    settings: dict[str, dict[str, Any]] = {method: {} for method in methods}
    for text in texts:
        place, equals, value = text.partition("=")
        method, dot, name = place.partition(".")
        if not (equals and dot):
            raise _wrong(text, "METHOD.OPTION=VALUE, for example simplenet.steps=500")
        if method not in settings:
            raise _wrong(text, f"one of the methods that are compared: {', '.join(methods)}")
        settings[method] |= _parsed(text, method, name.replace("-", "_"), value)
    for method in methods if steps is not None else ():
        if "steps" in _fields(method) and "steps" not in settings[method]:
            settings[method] |= _parsed(f"--steps {steps}", method, "steps", str(steps))
    return settings


def option_names(method: str) -> set[str]:
    """The options of a method."""
    return set(_fields(method))


def _fields(method: str) -> dict[str, dataclasses.Field[Any]]:
    return {one.name: one for one in dataclasses.fields(METHODS[method].load().options)}


def _parsed(text: str, method: str, name: str, value: str) -> dict[str, Any]:
    fields = _fields(method)
    if name not in fields:
        raise _wrong(text, f"an option of {method}: {', '.join(fields)}")
    flag = f"--{name.replace('_', '-')}"
    words = [flag, *value.replace(",", " ").split()] if isinstance(fields[name].default, tuple) else [flag, value]
    if isinstance(fields[name].default, bool):
        if value not in ("yes", "no"):
            raise _wrong(text, f"{method}.{name}=yes or {method}.{name}=no")
        words = [flag if value == "yes" else f"--no-{flag[2:]}"]
    parser = _SettingParser(text)
    add_options(parser, method)
    parsed = getattr(parser.parse_args(words), name)
    return {name: tuple(parsed) if isinstance(parsed, list) else parsed}


class _SettingParser(argparse.ArgumentParser):
    """Raises what argparse would print."""

    def __init__(self, text: str) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self._text = text

    def error(self, message: str) -> NoReturn:
        raise _wrong(self._text, message.partition(": ")[2] or message)


def _wrong(text: str, expected: str) -> TrainingError:
    return TrainingError("This option cannot be used.", expected=expected, got=text)


def changed_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run that are not the method's defaults; of files and folders only the name."""
    defaults = {name: json.loads(json.dumps(one.default, default=str)) for name, one in _fields(method).items()}
    return {
        name: Path(value).name if isinstance(value, str) else value
        for name, value in options.items()
        if value != defaults.get(name)
    }
