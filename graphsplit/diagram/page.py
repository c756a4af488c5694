"""A page for a report: the picture with tables of sections and borders; without script and external resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphsplit.diagram.tables import border_table, html_text, section_table, target_table

if TYPE_CHECKING:
    from graphsplit.diagram.picture import Picture

__all__ = ["page_of"]

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#20242a;background:#fff}
table{border-collapse:collapse;margin:1rem 0;font-size:13px}th,td{padding:.25rem .7rem;border-bottom:1px solid #d8dce1;
vertical-align:top;overflow-wrap:anywhere}th{color:#565d66;font-weight:500}figure{margin:0;overflow:auto}
svg{max-width:100%;height:auto}
"""


def page_of(picture: Picture) -> str:
    """The page as HTML text."""
    scene = picture.scene
    title = html_text(scene.title)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title} · graphsplit</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n<figure>{picture.svg}</figure>\n"
        + ("" if scene.target is None else f"<h2>Target</h2>\n{target_table(scene.target)}\n")
        + f"<h2>Section inputs and outputs</h2>\n{section_table(scene)}\n"
        + (f"<h2>Border tensors</h2>\n{border_table(scene)}\n" if scene.borders else "")
        + "</body></html>\n"
    )
