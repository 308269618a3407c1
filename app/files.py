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
    st.download_button(
        "Download", (folder / chosen).read_bytes, Path(chosen).name, icon=":material/download:", key=f"get:{run.id}"
    )
