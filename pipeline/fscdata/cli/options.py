"""Arguments that several subcommands take."""

from __future__ import annotations

from typing import Annotated

import typer

Data = Annotated[
    str, typer.Argument(help="the data set's folder, or its URL (s3://…)", metavar="DATA")
]
