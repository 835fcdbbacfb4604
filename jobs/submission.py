"""The commands over a cluster's jobs: `connote submit`, `connote logs`, `connote stop`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.options import Dashboard, Out, RecipePath, RunUri, Settings, Verbose, Wait

if TYPE_CHECKING:
    from engine.submission.naming import RunJobs
    from engine.submission.ray_jobs import RayJobs


def submit(
    recipe_path: RecipePath,
    address: Dashboard = None,
    out: Out = None,
    settings: Settings = None,
    retry_failed: Annotated[bool, typer.Option(help="Compute error rows again.")] = False,
    verbose: Verbose = False,
    wait: Wait = False,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="A variable to pass on, NAME or NAME=VALUE; may be repeated."),
    ] = None,
    attempts: Annotated[int, typer.Option(help="How often each job is tried.", min=1)] = 10,
    pause: Annotated[
        float, typer.Option(help="Seconds before the second attempt; doubled for each.", min=0)
    ] = 10,
    patience: Annotated[
        float, typer.Option(help="Seconds for which a cluster that does not answer is asked.", min=0)
    ] = 1800,
    detach: Annotated[bool, typer.Option(help="Have the cluster supervise; the terminal may go.")] = False,
) -> None:
    """Run a recipe on a cluster, from anywhere: again and again until it is complete."""
    from engine.submission import detached
    from engine.submission.packing import pack
    from engine.submission.plan import Plan, jobs_of
    from engine.submission.portable import check_paths, environment, places
    from engine.submission.runs import check_free
    from engine.submission.supervise import Supervisor, Voice
    from jobs.prepare import prepare

    recipe, directory = prepare(recipe_path, out, settings or [])
    check_paths(recipe)
    options = [
        *(("--out", out) if out else ()),
        *(word for each in settings or [] for word in ("--set", each)),
    ]
    flags = {"--retry-failed": retry_failed, "--verbose": verbose, "--wait": wait}
    options += [flag for flag, given in flags.items() if given]
    root = Path.cwd()
    jobs = jobs_of(recipe, recipe_path, root, options)
    variables = environment(env or [])
    parcel = pack(root, recipe_path)
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "working_dir.zip"
        service = _cluster(address, {"working_dir": str(package), "env_vars": variables})
        run = _jobs(directory.root.uri, recipe)
        check_free(service, run)
        for line in parcel.lines():
            _say(line)
        if local := places(recipe):
            _say(f"on nodes   all of them must reach {', '.join(local)}")
        parcel.write(package)
        plan = Plan(jobs, attempts, pause, patience)
        if detach:
            detached.detach(service, run, plan, _say)
            there = f"{run.uri} --address {address}" if address else run.uri
            _say(f"logs       connote logs {there} --follow")
            _say(f"stop       connote stop {there}")
            return
        status = Supervisor(service, run, plan, Voice(_say, _show)).supervise()
    raise typer.Exit(status)


def logs(
    run_uri: RunUri,
    address: Dashboard = None,
    follow: Annotated[bool, typer.Option(help="Go on until the run's last attempt has ended.")] = False,
    attempt: Annotated[
        int | None, typer.Option(help="Of this attempt; by default the newest.", min=1)
    ] = None,
) -> None:
    """Show what a run's job on a cluster says."""
    from engine.errors import RecipeError
    from engine.submission import runs

    if follow and attempt is not None:
        raise RecipeError("--attempt: --follow goes on from the newest attempt; leave one of them out")
    service, run = _cluster(address), _jobs(_root(run_uri))
    if follow:
        raise typer.Exit(runs.follow(service, run, _show))
    _show(runs.show(service, run, attempt))


def stop(run_uri: RunUri, address: Dashboard = None) -> None:
    """Stop a run's jobs on a cluster, the one that supervises them among them; what is finished is kept."""
    from engine.submission import runs

    runs.stop(_cluster(address), _jobs(_root(run_uri)), _say)


def job_lines(run_uri: str, address: str) -> list[str]:
    """What a cluster knows of a run's jobs, for `connote status`."""
    from engine.submission import runs

    return list(runs.told(_cluster(address), _jobs(_root(run_uri))))


def _cluster(address: str | None, environment: dict[str, object] | None = None) -> RayJobs:
    from engine.submission.address import dashboard_url
    from engine.submission.ray_jobs import RayJobs

    return RayJobs.at(dashboard_url(address), environment)


def _jobs(uri: str, recipe: object = None) -> RunJobs:
    from engine.recipe import Recipe, dump_recipe
    from engine.storage import digest_of
    from engine.submission.naming import RunJobs

    digest = digest_of(dump_recipe(recipe)) if isinstance(recipe, Recipe) else ""
    return RunJobs(uri.rstrip("/"), digest)


def _root(run_uri: str) -> str:
    from engine.rundir import RunDirectory

    return RunDirectory.at(run_uri).root.uri


def _say(line: str) -> None:
    typer.echo(line)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
