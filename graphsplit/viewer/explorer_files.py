"""The web page of ai-edge-model-explorer: its files, served without what it requests from outside."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

__all__ = ["offline", "read_web_file", "web_files"]

_FILE = re.compile(r"[A-Za-z0-9_][\w.-]{0,120}")
_SUBFOLDER = "static_files"


def web_files() -> Path | None:
    """The folder of the explorer's web page, which comes with its package; None if that is not installed."""
    spec = find_spec("model_explorer")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "web_app"
    return folder if (folder / "index.html").is_file() else None


def read_web_file(name: str, base: str) -> bytes | None:
    """The content of one of the explorer's files.

    Args:
        name: A plain file name, or one in ``static_files/``; no other path is followed.
        base: Path at which the page is served.

    Returns:
        None if there is no such file.
    """
    folder = web_files()
    plain = name.removeprefix(f"{_SUBFOLDER}/")
    if folder is None or not _FILE.fullmatch(plain):
        return None
    try:
        data = (folder / plain if plain == name else folder / _SUBFOLDER / plain).read_bytes()
    except OSError:
        return None
    return offline(data.decode(), base).encode() if plain == "index.html" else data


def offline(page: str, base: str) -> str:
    """The explorer's page without its requests to other hosts, served at a path of this server.

    Args:
        page: The page as HTML.
        base: The path.
    """
    page = re.sub(r"<link rel=\"preconnect\"[^>]*>", "", page)
    page = re.sub(r"url\(https?://[^)]*\)", "local('sans-serif')", page)
    # An inline handler loads the style sheet late, but the content policy runs no inline script.
    page = re.sub(r"media=\"print\" onload=\"[^\"]*\"", "", page)
    return page.replace('<base href="/">', f'<base href="{base}">')
