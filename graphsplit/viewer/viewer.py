"""`gs.view`: the workbench from Python, in a notebook or beside it."""

from __future__ import annotations

import webbrowser
from html import escape
from os import PathLike
from pathlib import Path
from threading import Thread
from typing import Any

from graphsplit.errors import GraphSplitError
from graphsplit.formats import Model
from graphsplit.parts.parts import Parts
from graphsplit.planning.planner import Plan
from graphsplit.viewer.server import Server
from graphsplit.viewer.session import open_model
from graphsplit.viewer.workbench import Workbench

__all__ = ["Viewer", "make_server", "view"]


class Viewer:
    """A workbench that is being served. A notebook shows it; `url` is its address; `close` ends it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url
        self._thread = Thread(target=server.serve_forever, args=(0.05,), name="graphsplit-view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; work that runs is waited for."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.close()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Viewer {self.url}>"

    def _repr_html_(self) -> str:
        address = escape(self.url)
        return (
            f'<iframe src="{address}" width="100%" height="760" style="border:1px solid #ccc"></iframe>'
            f'<p><a href="{address}" target="_blank" rel="noreferrer">open in a tab of its own</a></p>'
        )


def make_server(
    what: Model | Parts | Plan | str | PathLike[str], *, folder: str | PathLike[str] = ".", port: int = 0, **cut: Any
) -> Server:
    """A server that listens and does not serve yet; see `view`."""
    where = Path(folder)
    if not where.is_dir():
        raise GraphSplitError(f"{where} is no folder; name one that is there, to save into")
    return Server(Workbench(open_model(what, **cut), where.resolve()), port)


def view(
    what: Model | Parts | Plan | str | PathLike[str],
    *,
    folder: str | PathLike[str] = ".",
    port: int = 0,
    browser: bool = False,
    **cut: Any,
) -> Viewer:
    """Show a model, or a split, in the workbench; a notebook shows what comes back.

    folder   what is saved in the page goes into this folder, which must be there
    port     of the server on 127.0.0.1; 0: one that is free
    browser  whether to open a browser
    cut      where to begin: the arguments of `graphsplit.plan`

    Raises what loading and planning raise, GraphSplitError for a port that is taken.
    """
    viewer = Viewer(make_server(what, folder=folder, port=port, **cut))
    if browser:
        webbrowser.open(viewer.url)
    return viewer
