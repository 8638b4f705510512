"""`fsctrain run`: a flag for every setting."""

from __future__ import annotations

import inspect
import logging
import os
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fscdata.base.errors import FsckitError
from fsctrain.cli.screen import console
from fsctrain.config import Config, load_config
from fsctrain.config import recipes as recipe_names


def run(resume: bool, **flags: Any) -> None:
    """Train as a recipe says, with the settings given here in place of the recipe's.

    In brackets: what holds where neither says anything. On several GPUs: torchrun
    --nproc-per-node 4 -m fsctrain run …
    """
    settings = {name: value for name, value in flags.items() if value is not None}
    recipe = settings.pop("recipe", None)
    if recipe is None:
        raise FsckitError(f"--recipe is missing (there are: {', '.join(recipe_names())})")
    config = load_config(recipe, settings)

    from fsctrain.run_folder import BAD_IMAGES
    from fsctrain.stopping import StoppedError  # torch takes seconds to import: not for --help
    from fsctrain.train import train

    first = os.environ.get("RANK", "0") == "0"
    log = logging.getLogger("fsctrain")
    log.setLevel(logging.INFO if first else logging.WARNING)
    log.handlers = [_ConsoleHandler()]
    log.propagate = False  # open_clip gives the root logger a handler of its own
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar if console.is_terminal and first else nullcontext():
        task = bar.add_task("training", total=None)

        def watch(record: dict[str, Any], steps: int) -> None:
            if console.is_terminal and "loss" in record:
                loss = f"loss {record['loss']:.4f}"
                bar.update(task, completed=record["step"], total=steps, description=loss)
            else:
                console.print(f"step {record['step']}/{steps} {_brief(record)}")

        try:
            result = train(config, resume=resume, watch=watch)
        except StoppedError as stopped:
            log.info("stopped; the same command with --resume goes on")
            raise typer.Exit(128 + stopped.number) from None
    if not first:
        return
    if result.bad_images:
        counts = ", ".join(f"{reason}: {n}" for reason, n in result.bad_images.items())
        where = result.folder / BAD_IMAGES
        console.print(f"bad pictures, replaced by others: {counts}; see {where}")
    console.print(f"checkpoint: {result.checkpoint}")
    console.print(f"load it with: {result.loading_line}")


class _ConsoleHandler(logging.Handler):
    """Log lines by way of the console, so that they do not tear the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record))


def _brief(record: dict[str, Any]) -> str:
    """A record of the metrics on one line."""
    if "scores" in record:
        return " ".join(f"{name} {_number(score, 3)}" for name, score in record["scores"].items())
    losses = [name for name in ("loss", "clip", "global", "local") if name in record]
    parts = [f"{name} {_number(record[name], 4)}" for name in losses]
    parts += [
        f"prefers_true[{k}] {v:.2f}" for k, v in record["prefers_true"].items() if v is not None
    ]
    return f"epoch {record['epoch']} {' '.join(parts)} {record['samples_per_second']:.1f} samples/s"


def _number(value: float | None, digits: int) -> str:
    return "not finite" if value is None else f"{value:.{digits}f}"


def _flags() -> list[inspect.Parameter]:
    """`--resume`, and one flag for each field of Config, which itself reads their words."""
    text = "go on where the last saved state of this run is; begin it where there is none"
    flags = [_flag("resume", False, Annotated[bool, typer.Option("--resume", help=text)])]
    for name, field in Config.model_fields.items():
        switch = field.annotation is bool
        option = typer.Option(
            f"--{name.replace('_', '-')}" + (f"/--no-{name.replace('_', '-')}" if switch else ""),
            help=f"{field.description}{_default(field)}",
            metavar=None if switch else "VALUE",
            show_default=False,
        )
        flags.append(_flag(name, None, Annotated[(bool if switch else str) | None, option]))
    return flags


def _flag(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _default(field: FieldInfo) -> str:
    """What a setting is where neither a flag nor the recipe says."""
    value = field.get_default(call_default_factory=True)
    if value in (PydanticUndefined, None, ()):
        return ""
    return f" [{','.join(map(str, value)) if isinstance(value, tuple) else value}]"


# Typer reads a command's flags off its signature.
run.__signature__ = inspect.Signature(_flags())  # type: ignore[attr-defined]
run.__annotations__ = {flag.name: flag.annotation for flag in _flags()}
