"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
RunUri = Annotated[str, typer.Argument(help="The run directory: a path or URI.", metavar="RUN")]
Out = Annotated[str | None, typer.Option(help="Where the run writes; replaces run.out.")]
Address = Annotated[str | None, typer.Option(help="A Ray cluster; by default RAY_ADDRESS, else local.")]
Dashboard = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The cluster's dashboard, http://HOST:8265; by default RAY_API_SERVER_ADDRESS or RAY_ADDRESS, "
        "else this machine's.",
    ),
]
Verbose = Annotated[bool, typer.Option(help="Show Ray's and the workers' logs.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for another command on the run to end, and for missing nodes.")
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
