"""A job as one HTML file that opens from an e-mail: no script, no request, nothing that a name could do."""

import base64
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from core.errors import JobError, NotFoundError, StoreError
from core.paths import exists, expanded
from core.reports.contents import MOST_CLIPS, gather
from core.runs import Studio

HERE = Path(__file__).parent
FOLDER = "reports"


@dataclass(frozen=True)
class FrozenReport:
    """A page that was frozen.

    Attributes:
        job_id: Of the job that it shows.
        size: In bytes.
    """

    path: Path
    job_id: str
    at: datetime
    size: int


def freeze(
    studio: Studio, job_id: str, to: Path | None = None, *, notes: str = "", clips: int = MOST_CLIPS, at: datetime
) -> FrozenReport:
    """Write the page of a job that has ended; the file appears whole or not at all.

    Args:
        studio: Where the job is.
        job_id: The job.
        to: File to write, which must not exist; in the folder of reports if not given.
        notes: Shown at the top; empty lines part paragraphs.
        clips: How many utterances can be heard, 0 to 20.
        at: The moment, in UTC.

    Raises:
        NotFoundError: If there is no such job.
        JobError: If it is still at work.
        ConfigError: If its evaluations cannot be compared.
        StoreError: If the file exists or cannot be written.
    """
    studio.access.require("share")
    job = studio.store.job(job_id)
    if job.active:
        raise JobError(f"The job {job.id} is {job.state}. Freeze it when it has ended, or stop it first.")
    stem = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")[:40] or "job"
    path = to or studio.runs_folder / FOLDER / f"{stem}-{job.id}-{at:%Y%m%d-%H%M%S}.html"
    path = expanded(path).absolute()
    if exists(path):
        raise StoreError(f"{path} is there already. Name another file, so that nothing is overwritten.")
    page = render(studio, job_id, notes=notes, clips=clips, at=at)
    _write(path, page)
    return FrozenReport(path, job.id, at, path.stat().st_size)


def render(studio: Studio, job_id: str, *, notes: str, clips: int, at: datetime) -> str:
    """Return the page of a job; see `freeze`."""
    contents = gather(studio, job_id, notes=notes, clips=clips, at=at)
    style = (HERE / "report.css").read_text(encoding="utf-8")
    hashed = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashed}'; img-src data:; media-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(page=contents, policy=policy, style=Markup(style))


def frozen_reports(studio: Studio) -> list[FrozenReport]:
    """Return the pages in the folder of reports, the newest first."""
    found = []
    for path in (studio.runs_folder / FOLDER).glob("*.html"):
        told = re.search(r"-(j[a-z2-7]{7})-(\d{8}-\d{6})$", path.stem)
        if told and path.is_file() and not path.is_symlink():
            at = datetime.strptime(told[2], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
            found.append(FrozenReport(path, told[1], at, path.stat().st_size))
    return sorted(found, key=lambda report: (report.at, report.path.name), reverse=True)


def frozen_report(studio: Studio, name: str) -> FrozenReport:
    """Return a page of the folder of reports by the name of its file.

    Raises:
        NotFoundError: If there is none.
    """
    for report in frozen_reports(studio):
        if report.path.name == name:
            return report
    raise NotFoundError(f"There is no report '{name}' here. Choose one from the list.")


def _write(path: Path, page: str) -> None:
    temporary = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}). Check the free space.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
