"""Small graphs to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import graphsplit as gs
from graphsplit.formats import Model

HOSTILE = "<script>alert(1)</script>&\"'"

_NODE = 'node {{ name: "{0}" op: "{1}" {2} attr {{ key: "T" value {{ type: DT_FLOAT }} }} }}\n'


def chain(path: Path, *names: str) -> Path:
    """image ─▶ names[0] ─▶ names[1] … : Relu after Relu, each output float32 [?, 4]."""
    text = (
        'node { name: "image" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } '
        'attr { key: "shape" value { shape { dim { size: -1 } dim { size: 4 } } } } }\n'
    )
    last = "image"
    for name in names:
        text += _NODE.format(name, "Relu", f'input: "{last}"')
        last = name
    path.write_text(text)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """image ─▶ net/conv/a ─▶ net/conv/b ─▶ net/head ─▶ post/nms/a ─▶ post/out"""
    return gs.load(chain(tmp_path / "m.pbtxt", "net/conv/a", "net/conv/b", "net/head", "post/nms/a", "post/out"))


@pytest.fixture
def demo_model() -> Any:
    """The detector that comes with the package."""
    from graphsplit.demo import data as demo_data

    return gs.load(Path(demo_data.__file__).parent / "shapes_ssd.pb")
