"""The studio's pages. Started by ``manifold serve``, which says by environment which database and folder to open
and which token a browser has to have."""

import os
from pathlib import Path

# Imported here, before any session runs: first imports in several threads at once can meet half-made modules.
import altair  # noqa: F401
import numpy  # noqa: F401
import pandas  # noqa: F401
import plotly.graph_objects  # noqa: F401
import streamlit as st

from app import parts, state

# A file, not the name of a symbol: Streamlit would fetch that from a server of its own choice. For the same reason it
# is set before the pages, whose symbols would be taken.
HERE = Path(__file__).parent
st.set_page_config(page_icon=str(HERE / "icon.svg"), layout="wide")
access = parts.let_in(os.environ.get("MANIFOLD_TOKEN", ""))
page = st.navigation(
    [
        st.Page("views/runs.py", title="Runs", icon=":material/list:", url_path="runs", default=True),
        st.Page("views/new_run.py", title="New run", icon=":material/add_circle:", url_path="new"),
        st.Page("views/run.py", title="Run", icon=":material/monitoring:", url_path="run"),
        st.Page("views/alignment.py", title="Alignment", icon=":material/scatter_plot:", url_path="alignment"),
        st.Page("views/compare.py", title="Compare", icon=":material/compare_arrows:", url_path="compare"),
        st.Page("views/ablations.py", title="Ablations", icon=":material/table_chart:", url_path="ablations"),
        st.Page("views/reports.py", title="Reports", icon=":material/description:", url_path="reports"),
    ],
    position="top",
)
state.arrived(page)
st.set_page_config(page_title=f"{page.title} · Manifold Studio")
st.html(HERE / "style.css")
st.logo(HERE / "logo.svg", size="large")
state.open_studio(
    os.environ.get("MANIFOLD_DB", "sqlite:///experiments.db"), Path(os.environ.get("MANIFOLD_RUNS", "runs")), access
)
parts.show_trouble()
page.run()
