"""The pages of the documentation as text: what is in their code blocks."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["PAGES", "ROOT", "blocks", "commands", "name_of"]

ROOT = Path(__file__).parent.parent
PAGES = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / name for name in ("benchmarks/README.md", "models/README.md", "models/shapes/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """The path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The blocks of a language: what follows its name, and the code."""
    text = page.read_text(encoding="utf-8")
    return [(rest.strip(), code) for found, rest, code in _BLOCK.findall(text) if found == language]


def commands(page: Path) -> list[str]:
    """Calls of graphsplit in console blocks, without their comments."""
    lines = [line for _, code in blocks(page, "console") for line in code.splitlines()]
    return [re.split(r"\s+# ", line[2:])[0].strip() for line in lines if line.startswith("$ graphsplit")]
