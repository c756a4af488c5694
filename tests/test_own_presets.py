"""Presets of one's own, in a file."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.errors import CutError, FormatError
from graphsplit.formats import GraphDefModel
from graphsplit.planning.presets import presets, read_presets
from tests.graphs import model, node, placeholder

PRESET = {
    "name": "mine",
    "family": "mine",
    "title": "two heads",
    "targets": ["head"],
    "conditions": [{"says": "head reads the image", "node": "head", "needs": "image"}],
}


def written(folder: Path, *presets: object) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps({"schema": 1, "presets": presets}))
    return path


def whole() -> GraphDefModel:
    return model(placeholder("image"), node("head", "Neg", "image"), node("out", "Neg", "head"))


def test_a_preset_of_a_file_cuts_where_it_says(tmp_path: Path) -> None:
    plan = gs.plan(whole(), preset=str(written(tmp_path, PRESET)))
    assert plan["main"].outputs == ("head:0",)


def test_where_none_fits_the_reason_is_told(tmp_path: Path) -> None:
    other = {**PRESET, "conditions": [{"says": "a suppression", "op": "NonMaxSuppressionV3"}]}
    with pytest.raises(CutError, match=r"no preset of .*mine\.json matches this graph: mine: .*NonMaxSuppressionV3"):
        gs.plan(whole(), preset=str(written(tmp_path, other)))


def test_a_file_that_is_no_presets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"mine\.json: .*unknown key 'taregts'"):
        gs.plan(whole(), preset=str(written(tmp_path, {**PRESET, "taregts": []})))
    with pytest.raises(FormatError, match=r"nowhere\.json"):
        gs.plan(whole(), preset="nowhere.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"schema": 1}, r"\$\.presets: is missing"),
        ({"schema": 99, "presets": []}, r"\$\.schema: 99 is not read by this version, which reads 1"),
    ],
)
def test_a_file_without_presets_or_of_another_schema_is_refused(tmp_path: Path, content: object, says: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=rf"mine\.json: .*{says}"):
        gs.plan(whole(), preset=str(path))


def test_a_preset_without_targets_is_no_other_cut(tmp_path: Path) -> None:
    with pytest.raises(CutError, match=r"preset 'mine' of .*mine\.json matches, but has no targets"):
        gs.plan(whole(), preset=str(written(tmp_path, {**PRESET, "targets": []})))


def test_the_presets_of_the_package_pass_the_check_of_a_users_file():
    """They are not checked when they are read, which would import msgspec for every command."""
    shipped = Path(str(resources.files("graphsplit.planning.presets") / "families.json"))
    assert read_presets(shipped) == presets()
