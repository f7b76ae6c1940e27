"""Runbooks: what an alert means, first checks, how to mend it; the page that notices link."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import streamlit as st

from dashboards import cards, markup

_PACKAGED: Final = Path(__file__).parents[1] / "runbooks"
_CHECKOUT: Final = Path(__file__).parents[2] / "docs" / "runbooks"
"""In a wheel the pages travel inside this package; in a checkout they are where readers of the repository find them."""


def runbooks() -> dict[str, Path]:
    """Return the runbooks by name."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return {path.stem: path for path in sorted(folder.glob("[a-z]*.md"))}


def draw() -> None:
    """Draw the runbook that the address names, or the list of all."""
    known = runbooks()
    name = st.query_params.get("name", "")
    if name in known:
        text = known[name].read_text(encoding="utf-8")
        with st.container(width=860):
            st.markdown(re.sub(r"\]\((?!https?:)([a-z_]+)\.md\)", r"](/runbook?name=\1)", text))
        return
    steps = [(title_of(path), f"/runbook?name={one}") for one, path in known.items()]
    cards.html(markup.state("Runbooks", "One page for each rule: what it means, first checks, how to mend it.", steps))


def title_of(path: Path) -> str:
    """Return a runbook's heading."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
