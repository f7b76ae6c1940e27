"""The few Streamlit shapes every page is made of: card, chart, verdict; nothing here reads data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboards import markup


@contextmanager
def card(key: str, title: str, subtitle: str = "") -> Iterator[None]:
    """Open a bordered card as tall as its row; ``title`` is the finding, ``subtitle`` what is drawn."""
    with st.container(border=True, key=f"card-{key}", height="stretch"):
        st.html(markup.head(title, subtitle))
        yield


def html(text: str) -> None:
    """Show a block made by ``markup`` (which escapes)."""
    if text:
        st.html(text)


def chart(key: str, spec: dict[str, Any], data: pa.Table, alt: str, *, pick: Callable[[], None] | None = None) -> None:
    """Draw a spec of ``charts`` with its frame; ``pick`` is called when a mark is clicked (state under ``key``)."""
    selection: dict[str, Any] = {"on_select": pick, "selection_mode": "pick"} if pick else {}
    st.vega_lite_chart(data, spec, theme=None, width="stretch", key=key, alt=alt, **selection)


def opening(level: str, title: str, more: str) -> None:
    """Show the sentence a page opens with."""
    st.html(markup.verdict(level, title, more))
