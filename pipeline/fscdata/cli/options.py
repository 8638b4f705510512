"""Arguments shared by subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

Data = Annotated[str, typer.Argument(help="the data set's folder or URL (s3://…)", metavar="DATA")]
