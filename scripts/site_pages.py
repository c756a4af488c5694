"""The pages of the site that come from the rest of the repository; a hook of mkdocs.yml.

    ARCHITECTURE.md, models/README.md, …  ─▶ pages of the same text
    notebooks/*.ipynb                     ─▶ pages in the gallery, with the outputs that are committed
    the parsers of the command line       ─▶ usage and options, where a page says `<!-- usage -->`

Links are written as GitHub follows them, from the file they are in. Here they lead to the page that has the text, or to
the repository where no page has it.
"""

from __future__ import annotations

import argparse
import base64
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/graphsplit/graphsplit"

#: Page of the site → the file of the repository that holds its text.
TEXTS = {
    "design/architecture.md": "ARCHITECTURE.md",
    "design/benchmarks.md": "benchmarks/README.md",
    "models/index.md": "models/README.md",
    "models/shapes.md": "models/shapes/README.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
}
NOTEBOOKS = {f"gallery/{path.stem}.md": path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
PICTURES = {f"images/{path.name}": path for path in sorted((ROOT / "models" / "shapes").glob("*.[ps][nv]g"))}

_USAGE = "<!-- usage -->"
_COMMON = ("help", "json", "verbose", "version")  # what every command takes, commands/index.md says once
_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
_SUFFIXES = {"image/svg+xml": "svg", "image/png": "png"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that are not in docs/."""
    from mkdocs.structure.files import File

    for uri, source in TEXTS.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    for uri, path in PICTURES.items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    for uri, path in NOTEBOOKS.items():
        text, pictures = notebook_page(json.loads(path.read_text(encoding="utf-8")), path.stem)
        files.append(File.generated(config, uri, content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"gallery/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the usage of a command, and turn links between files into links between pages."""
    uri = page.file.src_uri
    if _USAGE in markdown:
        markdown = markdown.replace(_USAGE, usage(Path(uri).stem))
    return link(markdown, uri)


# links


def link(markdown: str, uri: str) -> str:
    """Lead the relative links of a page to pages; those to files that have no page, to the repository."""
    source = TEXTS.get(uri) or (f"notebooks/{Path(uri).stem}.ipynb" if uri in NOTEBOOKS else f"docs/{uri}")
    pages = {text: page for page, text in TEXTS.items()}
    pages |= {f"notebooks/{path.name}": page for page, path in NOTEBOOKS.items()}
    pages |= {path.relative_to(ROOT).as_posix(): page for page, path in PICTURES.items()}

    def lead(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in pages:
            target = posixpath.relpath(pages[path], posixpath.dirname(uri))
        elif path.startswith("docs/"):
            target = posixpath.relpath(path.removeprefix("docs/"), posixpath.dirname(uri))
        elif (ROOT / path).exists():
            target = f"{REPOSITORY}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"
        return target + anchor

    return "".join(text if code else _LINK.sub(lead, text) for code, text in _blocks(markdown))


def _blocks(markdown: str) -> Iterator[tuple[bool, str]]:
    """The text of a page in pieces: is it a fenced block of code, and the piece."""
    at = 0
    for fence in _FENCE.finditer(markdown):
        yield False, markdown[at : fence.start()]
        yield True, fence[0]
        at = fence.end()
    yield False, markdown[at:]


# commands


def usage(command: str) -> str:
    """Usage, arguments and options of a command, as its parser has them."""
    parser = parsers()[command]
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=92)
    lines = ["## Usage", "", "```text", parser.format_usage().removeprefix("usage: ").rstrip(), "```", ""]
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help is not argparse.SUPPRESS and a.dest not in _COMMON]
        if actions:
            lines += [f"### {(group.title or '').capitalize()}", ""]
            lines += [f"{group.description.capitalize()}.", ""] if group.description else []
            lines += ["| | |", "|---|---|", *(f"| {_call(a)} | {_cell(_help(a))} |" for a in actions), ""]
    return "\n".join(lines)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Command → its parser. Imports no framework."""
    from graphsplit.cli.arguments import build_parser

    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(commands.choices)


def _call(action: argparse.Action) -> str:
    """How an argument is written: `--rtol R`."""
    metavar = action.metavar
    if isinstance(metavar, tuple):
        metavar = " ".join(metavar)
    if metavar is None and action.choices is not None:
        metavar = f"{{{','.join(map(str, action.choices))}}}"
    if not action.option_strings:
        return f"`{metavar or action.dest}`"
    value = "" if action.nargs == 0 else f" {metavar or action.dest.upper()}"
    return "<br>".join(f"`{_cell(option + value)}`" for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    return text.replace("%(prog)s", "graphsplit").replace("%(default)s", str(action.default)).replace("%%", "%")


def _cell(text: str) -> str:
    """Text that does not end a cell of a table, nor begins a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


# notebooks


def notebook_page(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page: its text, and the pictures that it shows, by file name."""
    lines: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines += [source, ""]
            continue
        lines += ["```python", source, "```", ""]
        for output in cell["outputs"]:
            text, picture = _output(output, f"{stem}_{len(pictures) + 1}")
            pictures |= picture
            lines += [text, ""]
    return "\n".join(lines), pictures


def _output(output: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """One output of a cell: the richest of its forms that a page can hold."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        return f'<div class="output">\n{"".join(data["text/html"])}\n</div>', {}
    for kind, suffix in _SUFFIXES.items():
        if kind in data:
            content = "".join(data[kind])
            picture = content.encode() if suffix == "svg" else base64.b64decode(content)
            return f"![output of the cell above]({name}.{suffix}){{ .output }}", {f"{name}.{suffix}": picture}
    return f"````{{ .text .output }}\n{''.join(data['text/plain']).rstrip()}\n````", {}
