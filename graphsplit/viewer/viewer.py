"""`gs.view`: the workbench from Python, in a notebook or in a browser."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from html import escape
from os import PathLike
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from graphsplit.errors import GraphSplitError
from graphsplit.formats import ModelLike
from graphsplit.graph.options import check_count, check_options, check_path
from graphsplit.parts.parts import Parts
from graphsplit.planning.plan import Plan
from graphsplit.splitting.request import PlanOptions
from graphsplit.viewer.server import Server
from graphsplit.viewer.session import open_model
from graphsplit.viewer.workbench import Workbench

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Unpack

__all__ = ["Viewer", "make_server", "view"]


class Viewer:
    """A workbench that is being served; a notebook displays it, and `close` or the end of a ``with`` block ends it.

    Attributes:
        url: Its address, with the token.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url
        self._thread = Thread(target=server.serve_forever, args=(0.05,), name="graphsplit-view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving, after running work has finished."""
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
            f'<p><a href="{address}" target="_blank" rel="noreferrer">open in a new tab</a></p>'
        )


def make_server(
    what: ModelLike | Parts,
    plan: Plan | None = None,
    *,
    folder: str | PathLike[str] = ".",
    port: int = 0,
    trust: bool = False,
    feeds: Mapping[str, ArrayLike] | Sequence[Mapping[str, ArrayLike]] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    **cut: Unpack[PlanOptions],
) -> Server:
    """A server that listens and does not serve yet; see `view`."""
    check_options(view, cut, PlanOptions)
    check_count("port", port, least=0)
    check_path("folder", folder, "a folder")
    where = Path(folder)
    if not where.is_dir():
        raise GraphSplitError(f"{where} is not a folder; name an existing one to save into")
    session = open_model(what, planned=plan, trust=trust, **cut)
    return Server(Workbench(session, where.resolve(), trust=trust, feeds=feeds, shapes=shapes), port)


def view(
    what: ModelLike | Parts,
    plan: Plan | None = None,
    *,
    folder: str | PathLike[str] = ".",
    port: int = 0,
    browser: bool = False,
    trust: bool = False,
    feeds: Mapping[str, ArrayLike] | Sequence[Mapping[str, ArrayLike]] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    **cut: Unpack[PlanOptions],
) -> Viewer:
    """Show a model or a split in the workbench; a notebook displays the result.

    Args:
        what: A model, its parts, or the path of either.
        plan: The plan of that model to begin with.
        folder: Existing folder for what is saved in the page.
        port: Port of the server on 127.0.0.1; 0: any free one.
        browser: Whether to open a browser.
        trust: Load, and verify in the page, a model that reaches files, the network or Python.
        feeds: What to verify on in the page, as of `graphsplit.verify`.
        shapes: Input → shape that the file does not state, as of `graphsplit.verify`.
        **cut: Where to begin: the options of `graphsplit.plan`.

    Raises:
        OptionError: An option does not exist, or the port is not a number.
        GraphSplitError: The port is taken, or the folder does not exist; also what loading and planning raise.
    """
    viewer = Viewer(make_server(what, plan, folder=folder, port=port, trust=trust, feeds=feeds, shapes=shapes, **cut))
    if browser:
        webbrowser.open(viewer.url)
    return viewer
