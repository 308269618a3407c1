"""The commands. Each says in its docstring what ``--help`` prints."""

import json
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from core.cli.caching import cache
from core.cli.checking import checks_json, print_checks, told_while
from core.cli.data import data, told_without_recordings
from core.cli.doctor import examine, findings_json, print_findings
from core.cli.layers import layers
from core.cli.listing import methods_json, methods_markdown, print_methods
from core.cli.places import DATABASE, RUNS, Database, Json, Runs, job_of, newest, open_studio, read_runs
from core.cli.planning import plan
from core.cli.serving import StudioServer, open_browser, studio_server
from core.cli.sharing import bundle, report
from core.cli.tables import ablation_json, output, print_ablation, print_runs, runs_json
from core.cli.watching import follow, follow_maps
from core.config import method_rows
from core.errors import ConfigError, JobError
from core.names import visible
from core.reports.csv_file import ablation_csv
from core.reports.latex import ablation_latex
from core.reports.markdown import ablation_markdown
from core.runs import ACTIVE, GRACE_SECONDS, JobRecord, Studio

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Distil a speech model into a small student, and see what aligned.",
)
ablation = typer.Typer(help="Compare the runs of a job.", invoke_without_command=True)
app.add_typer(ablation, name="ablation")
app.add_typer(bundle, name="bundle")
app.add_typer(cache, name="cache")
app.add_typer(data, name="data")
app.command()(report)
app.command()(plan)
app.command()(layers)

QUICK_START = "quickstart"
STOPPING_SECONDS = 0.2
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"manifold {version('manifold-studio')}")
        raise typer.Exit


@app.callback()
def manifold(
    shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Distil a speech model into a small student, and see what aligned."""


@app.command()
def serve(
    db: Database = DATABASE,
    runs: Runs = RUNS,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8501,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    quickstart: Annotated[
        bool, typer.Option("--quickstart/--no-quickstart", help="Run the quick start when there are no runs yet.")
    ] = True,
) -> None:
    """Open the studio on http://127.0.0.1:PORT. Ctrl-C closes it; runs go on."""
    # Whoever ends this process by a signal wants the studio closed as Ctrl-C closes it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    screen = Console(stderr=True, highlight=False)
    with open_studio(db, runs, missing="make") as studio:
        try:
            with studio_server(database_url=studio.store.url, runs_folder=studio.runs_folder, port=port) as server:
                _serve(studio, server, screen=screen, browser=browser, quickstart=quickstart)
        except KeyboardInterrupt:
            active = len(studio.store.jobs(states=ACTIVE))
            going_on = {0: "", 1: " One job goes on: manifold runs"}.get(active, f" {active} jobs go on: manifold runs")
            screen.print(f"\nThe studio is closed.{going_on}", markup=False)


def _serve(studio: Studio, server: StudioServer, *, screen: Console, browser: bool, quickstart: bool) -> None:
    job = None
    if quickstart and not studio.store.runs(limit=1):
        screen.print("There are no runs yet: the quick start begins.")
        job = studio.start_quick_start()
        told_without_recordings(studio, job, screen)
    server.wait_until_it_answers()
    _print_open(server, screen, "Ctrl-C closes it; runs go on")
    if browser:
        open_browser(server.address, page=studio.runs_folder / "studio.html")
    job = job or next(iter(studio.store.jobs(limit=1, states=ACTIVE)), None)
    if job is not None:
        ended = follow(studio, job.id, screen=screen, alive=server.require_alive)
        _print_result(studio, ended)
        if ended.state != "finished" or ended.message:
            screen.print(visible(_ending(studio, ended)), markup=False)
        _print_open(server, screen, "Ctrl-C closes it")
    while True:
        server.require_alive()
        studio.refresh()
        time.sleep(2.0)


def _print_open(server: StudioServer, screen: Console, how: str) -> None:
    # On one line, whatever the terminal's width: it is copied.
    screen.print(f"The studio is open: {server.address} ({how})", markup=False, soft_wrap=True)


@app.command()
def quickstart(
    db: Database = DATABASE,
    runs: Runs = RUNS,
    as_json: Json = False,
    maps: Annotated[bool, typer.Option("--maps/--no-maps", help="Wait until the maps are drawn, too.")] = True,
) -> None:
    """Run the ablation that ships with the project, print its table, and exit."""
    with open_studio(db, runs, missing="make") as studio:
        job = studio.start_quick_start()
        told_without_recordings(studio, job, Console(stderr=True, highlight=False))
        _see_through(studio, job, as_json=as_json, maps=maps)


@app.command()
def run(
    config: Annotated[str, typer.Argument(help="YAML or JSON file of a run or an ablation, or the name of a preset.")],
    db: Database = DATABASE,
    runs: Runs = RUNS,
    as_json: Json = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return at once.")] = False,
    maps: Annotated[bool, typer.Option("--maps/--no-maps", help="Wait until the maps are drawn, too.")] = False,
) -> None:
    """Start a run or an ablation and wait for it. Ctrl-C stops the waiting, not the run."""
    name, configs = read_runs(config)
    with open_studio(db, runs, missing="make") as studio:
        job = studio.start(configs, name=name)
        if not detach:
            _see_through(studio, job, as_json=as_json, maps=maps)
        elif job.state == "failed":
            raise JobError(job.message)
        elif as_json:
            _print_json({"job": job.id, "runs": [run.id for run in studio.store.runs(job_id=job.id)]})
        else:
            print(f"Job {job.id} is on its way. Watch it: manifold runs. Stop it: manifold stop {job.id}")


@app.command()
def methods(
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table in Markdown.")] = False,
) -> None:
    """List every method that can be compared: what it is, its formula and its source."""
    if as_json:
        _print_json(methods_json(method_rows()))
    elif markdown:
        sys.stdout.write(methods_markdown(method_rows()))
    else:
        print_methods(method_rows(), output())


@app.command()
def check(
    config: Annotated[str, typer.Argument(help="YAML or JSON file of a run or an ablation, or the name of a preset.")],
    db: Database = DATABASE,
    runs: Runs = RUNS,
    as_json: Json = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure",
            help="Take some real steps for time and memory, a quarter of a minute or more for each run; without, it "
            "takes seconds.",
        ),
    ] = True,
) -> None:
    """Say what can be known before a run: mistakes, what is trained, what it takes. The exit status 2 is: it cannot."""
    with open_studio(db, runs, missing="lend") as studio:
        try:
            name, configs = studio.quick_start() if config == QUICK_START else read_runs(config)
        except ConfigError as error:
            if not as_json:
                raise
            problems = [vars(problem) for problem in error.problems] or [{"where": "", "message": error.summary}]
            _print_json({"name": config, "well": False, "problems": problems, "job": None, "runs": []})
            raise typer.Exit(2) from None
        # Imported late: the other commands need no torch.
        from core import checking
        from core.teachers import Finder

        find = Finder(studio.store, studio.runs_folder)
        with told_while(configs, measured=measure) as tell:
            results = checking.check(configs, runs_folder=studio.runs_folder, measured=measure, find=find, tell=tell)
        for run_config, result in zip(configs, results, strict=True):
            studio.store.add_check(run_config.model_dump(mode="json"), result, measure=measure)
        found = checks_json(name, configs, results)
        if as_json:
            _print_json(found)
        else:
            print_checks(found, output())
        if not found["well"]:
            raise typer.Exit(2)


@app.command("runs")
def list_runs(
    db: Database = DATABASE,
    runs: Runs = RUNS,
    as_json: Json = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30,
) -> None:
    """List runs, newest first."""
    with open_studio(db, runs) as studio:
        studio.refresh()
        found = studio.store.runs(limit=limit)
        read = [item for item in studio.store.evaluations(test_set="test") if item.words]
        wer = {item.run_id: item.wer for item in read if item.run_id is not None}
        stalled = studio.stalls()
        if as_json:
            _print_json(runs_json(found, wer, stalled))
        elif found:
            print_runs(found, wer, output(), stalled)
        else:
            print("There are no runs yet. Start the quick start: manifold quickstart")


@app.command()
def stop(
    job_or_run: Annotated[str, typer.Argument(help="Id of a job, or of one of its runs.")],
    db: Database = DATABASE,
    runs: Runs = RUNS,
    now: Annotated[bool, typer.Option("--now", help="Kill it instead of waiting for its next step.")] = False,
    grace: Annotated[
        float, typer.Option(min=0, help="Kill it where it has not reached its next step after so many seconds.")
    ] = GRACE_SECONDS,
) -> None:
    """Stop a job and wait until it has. A run shares its worker with the other runs of its job, which stop too."""
    with open_studio(db, runs) as studio:
        studio.refresh()
        job = studio.stop(job_of(studio, job_or_run).id, now=now, grace_seconds=grace)
        if job.active:
            screen = Console(stderr=True, highlight=False)
            screen.print(f"Job {job.id} stops at its next step. If it does not, it is killed in {grace:.0f} s.")
        while job.active:
            time.sleep(STOPPING_SECONDS)
            studio.refresh()
            job = studio.store.job(job.id)
        print(visible(f"Job {job.id} is {job.state}. {job.message}").rstrip())


@ablation.callback()
def ablation_newest(context: typer.Context, db: Database = DATABASE, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Compare the runs of a job: the newest finished one, unless a command says otherwise."""
    if context.invoked_subcommand is None:
        show(None, db, runs, as_json)


@ablation.command()
def show(
    job: Annotated[
        str | None, typer.Argument(help="Id of a job or a run; the newest finished job if not given.")
    ] = None,
    db: Database = DATABASE,
    runs: Runs = RUNS,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX, to be taken in with \\\\input.")] = False,
    against: Annotated[
        str | None,
        typer.Option(
            help="Name or id of the run that others are compared with; the first if not given. A run that is chosen "
            "after reading is corrected for all pairs. Runs of other seeds are compared with its run of their seed, "
            "where there is one."
        ),
    ] = None,
) -> None:
    """Print the table of a job: error rates, differences with their intervals, what was trained."""
    with open_studio(db, runs) as studio:
        studio.refresh()
        found = newest(studio) if job is None else job_of(studio, job)
        table = studio.ablation(found.id, against=against)
        if as_json:
            _print_json(ablation_json(table))
        elif as_csv:
            sys.stdout.write(ablation_csv(table))
        elif as_markdown:
            sys.stdout.write(ablation_markdown(table))
        elif as_latex:
            sys.stdout.write(ablation_latex(table))
        else:
            print_ablation(table, output())


ablation.command("run", help="Start an ablation by the name of a preset or by its file; as 'manifold run'.")(run)


@app.command()
def export(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run that has adapters.")],
    to: Annotated[Path, typer.Option(help="Folder to write; it must not hold anything yet.")],
    db: Database = DATABASE,
    runs: Runs = RUNS,
) -> None:
    """Write the student with its adapters merged, as a transformers folder, and hear that it says the same."""
    with open_studio(db, runs) as studio:
        found = studio.store.run(run_id)
        from core.exports.merged import export_merged

        written = export_merged(found, store=studio.store, runs_folder=studio.runs_folder, to=to)
        print(written.summary)


@app.command()
def doctor(db: Database = DATABASE, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Say what this machine has and lacks. The exit status is 1 when runs would fail."""
    findings = examine(database_url=db, runs_folder=runs)
    if as_json:
        _print_json(findings_json(findings))
    else:
        print_findings(findings, output())
    if not findings_json(findings)["well"]:
        raise typer.Exit(1)


def _see_through(studio: Studio, job: JobRecord, *, as_json: bool, maps: bool) -> None:
    """Follow a job to its end, print its table, and wait for its maps; raise JobError when it did not finish."""
    screen = Console(stderr=True, highlight=False)
    try:
        ended = follow(studio, job.id, screen=screen)
        if as_json:
            _print_json(ablation_json(studio.ablation(job.id)))
        else:
            _print_result(studio, ended)
        if ended.state != "finished" or ended.message:
            raise JobError(_ending(studio, ended))
        if maps:
            follow_maps(studio, job.id, screen=screen)
    except KeyboardInterrupt:
        left = studio.store.job(job.id)
        if left.active:
            screen.print(f"\nThe job goes on. Watch it: manifold runs. Stop it: manifold stop {job.id}", markup=False)
        raise typer.Exit(INTERRUPTED) from None


def _print_result(studio: Studio, job: JobRecord) -> None:
    table = studio.ablation(job.id)
    if table.teacher is not None or table.several:
        print_ablation(table, output())


def _ending(studio: Studio, job: JobRecord) -> str:
    """Return how a job ended that did not finish, with the end of its log."""
    log = studio.log_tail(job.id, 8)
    said = f"\nThe end of {job.log_path}:\n{log}" if log else ""
    return f"The job {job.id} is {job.state}. {job.message}{said}"


def _print_json(data: dict[str, Any] | list[dict[str, Any]]) -> None:
    print(json.dumps(data, indent=2, allow_nan=False))
