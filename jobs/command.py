"""The `connote` command."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from engine.errors import ConnoteError, RecipeError, RunHeld
from engine.statuses import HELD, INTERRUPTED, OK, REFUSED, STOPPED
from jobs import submission
from jobs.analysis import ANALYSES, command_of
from jobs.options import Address, Dashboard, Out, RecipePath, RunUri, Settings, Verbose, Wait
from jobs.prepare import exit_status, prepare, prepare_finetune

app = typer.Typer(
    help="Mine what images mean.", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False
)


class Joining(TypedDict):
    """What every job is told about the cluster and the terminal."""

    address: str | None
    verbose: bool
    wait: bool
    say: Callable[[str], None]


class Target(StrEnum):
    """The forms that `connote export` writes."""

    huggingface = "hf"
    open_clip = "open_clip"
    webdataset = "webdataset"
    csv = "csv"


class Which(StrEnum):
    """Which of an image's captions an export holds."""

    mined = "mined"
    original = "original"
    both = "both"


@app.command()
def run(
    recipe_path: RecipePath,
    out: Out = None,
    settings: Settings = None,
    retry_failed: Annotated[bool, typer.Option(help="Compute error rows again.")] = False,
    address: Address = None,
    verbose: Verbose = False,
    wait: Wait = False,
) -> None:
    """Run a recipe, or go on with it where it stopped: the same command does both."""
    from engine.flow.analyse import analyse
    from engine.flow.mine import mine
    from engine.lease import held
    from jobs.show import summary_lines

    recipe, directory = prepare(recipe_path, out, settings or [])
    how: Joining = {"address": address, "verbose": verbose, "wait": wait, "say": _say}
    with held(directory.root, "connote run", wait=wait, say=_say):
        summary = mine(recipe, directory, retry_failed=retry_failed, **how)
        for line in summary_lines(summary, recipe, directory.root.uri):
            _say(line)
        for line in analyse(recipe, directory, **how):
            _say(line)
    if recipe.finetune:
        from engine.training.trainer import finetune as train

        for line in train(recipe, directory, **how):
            _say(line)
    raise typer.Exit(exit_status(summary, recipe.run.max_failed_share))


for job, about in ANALYSES.items():
    app.command(job, help=about)(command_of(job))


@app.command()
def finetune(
    recipe_path: RecipePath,
    out: Out = None,
    settings: Settings = None,
    address: Address = None,
    verbose: Verbose = False,
    wait: Wait = False,
) -> None:
    """Fine-tune a CLIP on a run's captions, or go on where it stopped: the section finetune."""
    from engine.training.trainer import finetune as train

    recipe, directory = prepare_finetune(recipe_path, out, settings or [])
    for line in train(recipe, directory, address=address, verbose=verbose, wait=wait, say=_say):
        _say(line)


@app.command()
def curves(
    run_uris: Annotated[list[str], typer.Argument(help="Measured runs: paths or URIs.", metavar="RUN...")],
    target: Annotated[Path, typer.Option("--to", help="The directory to write.")],
) -> None:
    """Draw the radius curves of several runs in one plot, with a table of each. Reads files only."""
    from engine.polysemy.compare import compare_runs
    from engine.rundir import RunDirectory
    from engine.storage import locate

    for line in compare_runs([RunDirectory.at(uri) for uri in run_uris], locate(target)):
        _say(line)


@app.command()
def status(
    run_uri: RunUri,
    recipe_path: Annotated[
        Path | None, typer.Option("--recipe", help="Compare with this recipe instead of the run's own.")
    ] = None,
    settings: Settings = None,
    address: Dashboard = None,
) -> None:
    """Say what is done and what the next run would do. Reads files, and asks the cluster at --address."""
    from engine.rundir import RunDirectory
    from jobs.show import status_lines

    if address:
        for line in submission.job_lines(run_uri, address):
            _say(line)
    for line in status_lines(RunDirectory.at(run_uri), recipe_path, settings or []):
        _say(line)


@app.command()
def plan(
    recipe_path: RecipePath,
    images: Annotated[
        int | None, typer.Option(help="How many images; by default those in the run's catalog.", min=1)
    ] = None,
    rates: Annotated[
        list[str] | None,
        typer.Option("--rate", help="STAGE=IMAGES: images a second on one GPU; may be repeated."),
    ] = None,
    measured_in: Annotated[
        str | None, typer.Option(help="A run whose statistics are used; by default the recipe's own.")
    ] = None,
    gpu_price: Annotated[float | None, typer.Option(help="What one GPU costs for an hour.")] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs of the cluster, which pools with actors: auto share.", min=0)
    ] = None,
    out: Out = None,
    settings: Settings = None,
) -> None:
    """Say what a run takes: requests, tokens, GPU-hours, hours, disk, cost. Reads files only."""
    from jobs.plan import plan_lines

    given = settings or [], out, images, rates or [], measured_in, gpu_price, gpus
    for line in plan_lines(recipe_path, *given):
        _say(line)


@app.command()
def export(
    run_uri: RunUri,
    target: Annotated[str, typer.Argument(help="The directory to write.", metavar="DIR")],
    to: Annotated[Target, typer.Option(help="The form.")],
    captions: Annotated[Which, typer.Option(help="Which captions.")] = Which.mined,
    draw: Annotated[bool, typer.Option(help="One caption an image, drawn by the run's seed.")] = False,
    flagged: Annotated[bool, typer.Option(help="Also captions that failed a check.")] = False,
    images: Annotated[bool, typer.Option(help="hf: also the images themselves.")] = False,
) -> None:
    """Write a run's captions for other tools: Hugging Face, open_clip, WebDataset, CSV."""
    from engine.export import ExportSettings, export_run
    from engine.rundir import RunDirectory

    chosen = ExportSettings(form=to.value, captions=captions.value, draw=draw, flagged=flagged, images=images)
    for line in export_run(RunDirectory.at(run_uri), target, chosen):
        _say(line)


@app.command()
def show(
    run_uri: RunUri,
    images: Annotated[int, typer.Option(help="How many images.", min=1)] = 3,
) -> None:
    """Show a few images' descriptions, associations and captions."""
    from engine.rundir import RunDirectory
    from jobs.show import sample_lines

    for line in sample_lines(RunDirectory.at(run_uri), images):
        _say(line)


for of_jobs in (submission.submit, submission.logs, submission.stop):
    app.command()(of_jobs)


def _say(line: str) -> None:
    typer.echo(line)


def guarded(command: Callable[[], object]) -> int:
    """Run a command; turn the project's errors into one message and an exit status."""
    try:
        command()
        return OK
    except RecipeError as error:
        print(f"connote: refused: {error}", file=sys.stderr)
        return REFUSED
    except RunHeld as error:
        print(f"connote: left: {error}", file=sys.stderr)
        return HELD
    except ConnoteError as error:
        print(f"connote: stopped: {error}", file=sys.stderr)
        return STOPPED
    except Exception:
        traceback.print_exc()
        print("connote: stopped by a fault of its own; finished parts are kept, see above", file=sys.stderr)
        return STOPPED
    except (KeyboardInterrupt, SystemExit) as leaving:
        # typer turns Ctrl-C into an exit with this status before it gets here.
        if isinstance(leaving, SystemExit) and leaving.code != INTERRUPTED:
            raise
        print("\nconnote: stopped; run the same command to go on from here", file=sys.stderr)
        return INTERRUPTED


def main() -> None:
    """The entry point of `connote`. Schedulers stop a job with SIGTERM: it is taken as Ctrl-C is."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(guarded(app))


def run_as_command(name: str) -> None:
    """`python -m jobs.mine RECIPE ...` is `connote run RECIPE ...`, and so on."""
    sys.argv.insert(1, name)
    main()


if __name__ == "__main__":
    main()
