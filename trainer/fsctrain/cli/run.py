"""`fsctrain run`: one option per setting."""

from __future__ import annotations

import inspect
import logging
import os
import time
from contextlib import nullcontext
from typing import Annotated, Any, get_args

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.markup import escape

from fscdata.base.errors import FsckitError
from fscdata.base.text import join_counts
from fsctrain.cli.report import open_view, summary
from fsctrain.cli.screen import console
from fsctrain.config import Config, load_config
from fsctrain.fields import Panel
from fsctrain.recipes import recipe_names
from fsctrain.run_folder import BAD_IMAGES, METRICS, check_folders


def run(resume: bool, **options: Any) -> None:
    """Fine-tune CLIP with a recipe's settings.

    Options override the recipe. On several GPUs, run: torchrun --nproc-per-node 4 -m fsctrain run …
    """
    settings = {name: value for name, value in options.items() if value is not None}
    recipe = settings.pop("recipe", None)
    if recipe is None:
        raise FsckitError(f"--recipe is missing; choose {', '.join(recipe_names())}")
    config = load_config(recipe, settings)

    if os.environ.get("WORLD_SIZE", "1") == "1":
        # Several ranks check together once they are connected, so that none waits for another.
        check_folders(config, resume=resume)

    # torch takes seconds to import, and neither `fsctrain run --help` nor a mistake needs it.
    from fsctrain import stopping, train

    first_rank = os.environ.get("RANK", "0") == "0"
    # Under torchrun every rank runs this command, but only the first prints.
    _log_to_console(logging.INFO if first_rank else logging.WARNING)
    started = time.monotonic()
    try:
        with open_view(console) if first_rank else nullcontext() as watch:
            result = train.train(config, resume=resume, watch=watch)
    except stopping.StoppedError as stopped:
        log.info("stopped; rerun the same command with --resume to continue")
        raise typer.Exit(128 + stopped.number) from None
    if not first_rank:
        return
    metrics = result.folder / METRICS
    if metrics.exists():  # else someone deleted it after the run
        for line in summary(metrics, result.steps, time.monotonic() - started):
            console.print(line)
    if result.bad_images:
        counts = join_counts(result.bad_images)
        console.print(f"replaced bad images: {counts}; see {result.folder / BAD_IMAGES}")
    console.print(f"checkpoint: {result.checkpoint}")
    console.print(f"load it with: {result.loading_line}")


log = logging.getLogger("fsctrain")


class _ConsoleHandler(logging.Handler):
    """Prints log lines through the console, which keeps the live table intact."""

    def emit(self, record: logging.LogRecord) -> None:
        # In a terminal, wrapped between words; in a pipe, a message stays one line.
        console.print(self.format(record), soft_wrap=not console.is_terminal)


def _log_to_console(level: int) -> None:
    log.setLevel(level)
    log.handlers = [_ConsoleHandler()]
    log.propagate = False  # open_clip adds its own handler to the root logger


def _parameters() -> list[inspect.Parameter]:
    """`--resume` and one option per field of Config, in the order of the panels.

    Values stay strings: Config parses them like a recipe's.
    """
    text = "resume from the last saved state, or start if there is none"
    resume = typer.Option("--resume", help=text, rich_help_panel="Run")
    parameters = [_parameter("resume", False, Annotated[bool, resume])]
    panels = get_args(Panel)
    fields = sorted(Config.model_fields.items(), key=lambda item: panels.index(_panel(item[1])))
    for name, field in fields:
        switch = field.annotation is bool
        dashed = name.replace("_", "-")
        option = typer.Option(
            f"--{dashed}/--no-{dashed}" if switch else f"--{dashed}",
            help=escape(f"{field.description}{_note(name, field)}"),  # brackets are rich markup
            metavar=None if switch else "VALUE",
            show_default=False,
            rich_help_panel=_panel(field),
        )
        parameters.append(
            _parameter(name, None, Annotated[(bool if switch else str) | None, option])
        )
    # The option that is always required comes first.
    return sorted(parameters, key=lambda parameter: parameter.name != "recipe")


def _parameter(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _panel(field: FieldInfo) -> str:
    assert isinstance(field.json_schema_extra, dict)
    return str(field.json_schema_extra["panel"])


def _note(name: str, field: FieldInfo) -> str:
    """Whether an option is required, or its default."""
    value = field.get_default(call_default_factory=True)
    if name == "recipe":
        return " [required]"
    if value is PydanticUndefined:
        return " [required, here or in the recipe]"
    if value is None or value == () or "[default: " in str(field.description):
        return ""
    if isinstance(value, bool):
        value = "on" if value else "off"
    return f" [default: {','.join(map(str, value)) if isinstance(value, tuple) else value}]"


# Typer reads a command's options from its signature.
run.__signature__ = inspect.Signature(_parameters())  # type: ignore[attr-defined]
run.__annotations__ = {parameter.name: parameter.annotation for parameter in _parameters()}
