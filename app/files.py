"""What a run has left on the disk."""

import shlex
from pathlib import Path

import pandas as pd
import streamlit as st

from app import parts, state, text
from core.runs import RunRecord


def show(run: RunRecord) -> None:
    """Show what a run has left on the disk, let one file be taken away, and say how its student is exported."""
    studio = state.studio()
    folder = studio.runs_folder / run.id
    _stayed_behind(run)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if any(path.name == "adapter_model.safetensors" for path in files):
        st.markdown("**The student as a transformers folder**, its adapters merged, loaded again and heard:")
        command = ["manifold", "export", run.id, "--to", "student", "--db", studio.store.url]
        st.code(shlex.join([*command, "--runs", str(studio.runs_folder)]), language=None, wrap_lines=True)
    if not files:
        st.info("This run has no files.", icon=":material/folder_off:")
        return
    names = [str(path.relative_to(folder)) for path in files]
    sizes = [text.size(path.stat().st_size) for path in files]
    frame = pd.DataFrame({"File": names, "Size": sizes})
    parts.table(frame, alt="Files of this run and their sizes", numbers=["Size"])
    st.caption(f"In {text.plain(str(folder))}")
    chosen = st.selectbox("File", names, key=f"file:{run.id}", width=420)
    parts.download("Download", (folder / chosen).read_bytes, Path(chosen).name, key=f"get:{run.id}")


def _stayed_behind(run: RunRecord) -> None:
    """Say what of a run from elsewhere did not come along: a bundle leaves it out, or the run never had it."""
    studio = state.studio()
    job = studio.store.job(run.job_id)
    if job.active or job.pid is not None:
        return
    folder = studio.runs_folder / run.id
    there = {
        "adapters": (folder / "adapters").is_dir(),
        "states": (folder / "states").is_dir(),
        "log": studio.log_path(job.id).is_file(),
    }
    missing = [name for name, found in there.items() if not found]
    if missing:
        listed = " and ".join([", ".join(missing[:-1]), missing[-1]] if len(missing) > 1 else missing)
        st.info(f"This run did not train here. What did not come with it: {listed}.", icon=":material/folder_zip:")
