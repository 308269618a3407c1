"""The studio's pages. Started by ``manifold serve``, which says by environment which database and folder to open."""

import os
from pathlib import Path

# Imported here, before any session runs: first imports in several threads at once can meet half-made modules.
import altair  # noqa: F401
import numpy  # noqa: F401
import pandas  # noqa: F401
import plotly.graph_objects  # noqa: F401
import streamlit as st

from app import state
from app.views import ablations, alignment, new_run, run, runs

st.set_page_config(page_title="Manifold Studio", page_icon=":material/graphic_eq:", layout="wide")
state.open_studio(
    os.environ.get("MANIFOLD_DB", "sqlite:///experiments.db"), Path(os.environ.get("MANIFOLD_RUNS", "runs"))
)
state.PAGES.update(
    runs=st.Page(state.guarded(runs.show), title="Runs", icon=":material/list:", url_path="runs", default=True),
    new=st.Page(state.guarded(new_run.show), title="New run", icon=":material/add_circle:", url_path="new"),
    run=st.Page(state.guarded(run.show), title="Run", icon=":material/monitoring:", url_path="run"),
    alignment=st.Page(
        state.guarded(alignment.show), title="Alignment", icon=":material/scatter_plot:", url_path="alignment"
    ),
    ablations=st.Page(state.guarded(ablations.show), title="Ablations", icon=":material/table:", url_path="ablations"),
)
st.navigation(list(state.PAGES.values()), position="top").run()
