"""The command `fsctrain`: it parses, calls and prints."""

from __future__ import annotations

import inspect
import logging
import sys
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fscdata.contract import FsckitError, printable
from fsctrain import __version__
from fsctrain.config import Config, load_config, recipe_path
from fsctrain.config import recipes as recipe_names

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune a CLIP on tars and the hard negatives that fscdata made for them.",
)
console = Console(highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """The console script: a user's mistake is one sentence and exit status 1."""
    try:
        app()
    except FsckitError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed; run pip install 'fsckit[train]'")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(sentence: str) -> None:
    sys.stderr.write(f"fsctrain: {printable(sentence)}\n")
    sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        console.print(f"fsctrain {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="the recipe to show")] = None,
) -> None:
    """List the recipes, or show one."""
    if name is not None:
        console.print(recipe_path(name).read_text(encoding="utf-8"), end="")
        return
    for recipe in recipe_names():
        command = recipe_path(recipe).read_text(encoding="utf-8").splitlines()[0]
        console.print(f"{recipe:12} {command.removeprefix('# ')}")


def run(**flags: str | None) -> None:
    """Train as a recipe says, with the settings given here in place of the recipe's.

    In brackets: what holds where neither says anything.
    """
    settings = {name: value for name, value in flags.items() if value is not None}
    recipe = settings.pop("recipe", None)
    if recipe is None:
        raise FsckitError(f"--recipe is missing (there are: {', '.join(recipe_names())})")
    config = load_config(recipe, settings)

    from fsctrain.train import train  # torch takes seconds to import: not for --help

    log = logging.getLogger("fsctrain")
    log.setLevel(logging.INFO)
    log.handlers = [_ConsoleHandler()]
    log.propagate = False  # open_clip gives the root logger a handler of its own
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar if console.is_terminal else nullcontext():
        task = bar.add_task("training", total=None)

        def watch(record: dict[str, Any], steps: int) -> None:
            if console.is_terminal and "loss" in record:
                loss = f"loss {record['loss']:.4f}"
                bar.update(task, completed=record["step"], total=steps, description=loss)
            else:
                console.print(f"step {record['step']}/{steps} {_brief(record)}")

        result = train(config, watch=watch)
    if result.bad_images:
        counts = ", ".join(f"{reason}: {n}" for reason, n in result.bad_images.items())
        console.print(f"pictures left out: {counts}; see {result.folder / 'bad_images.jsonl'}")
    console.print(f"checkpoint: {result.checkpoint}")
    console.print(f"load it with: {result.loading_line}")


class _ConsoleHandler(logging.Handler):
    """Log lines by way of the console, so that they do not tear the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record))


def _brief(record: dict[str, Any]) -> str:
    """A record of the metrics on one line."""
    if "scores" in record:
        return " ".join(f"{name} {score:.3f}" for name, score in record["scores"].items())
    parts = [f"{k} {record[k]:.4f}" for k in ("loss", "clip", "global", "local") if k in record]
    parts += [
        f"prefers_true[{k}] {v:.2f}" for k, v in record["prefers_true"].items() if v is not None
    ]
    return f"epoch {record['epoch']} {' '.join(parts)} {record['samples_per_second']:.1f} samples/s"


def _flags() -> list[inspect.Parameter]:
    """One flag for each field of Config; values stay words, which Config itself reads."""
    flags = []
    for name, field in Config.model_fields.items():
        option = typer.Option(
            f"--{name.replace('_', '-')}",
            help=f"{field.description}{_default(field)}",
            metavar="VALUE",
            show_default=False,
        )
        flags.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[str | None, option],
            )
        )
    return flags


def _default(field: FieldInfo) -> str:
    """What a setting is where neither a flag nor the recipe says."""
    value = field.get_default(call_default_factory=True)
    if value in (PydanticUndefined, None, ()):
        return ""
    return f" [{','.join(map(str, value)) if isinstance(value, tuple) else value}]"


# Typer reads a command's flags off its signature.
run.__signature__ = inspect.Signature(_flags())  # type: ignore[attr-defined]
run.__annotations__ = {flag.name: flag.annotation for flag in _flags()}
app.command()(run)

if __name__ == "__main__":
    main()
