"""Cuts for a target: found by the search, fitted to the compiler's answer, written with it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import graphsplit as gs
from graphsplit.cli import run as run_cli
from graphsplit.compilers.asking import installed
from graphsplit.planning.targets import read_target

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import Built
from tests.quantised import network, refusing, target_file
from tests.shared import shared_case


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(network("alpha", "beta", "gamma", "delta", custom="Decoder"))
    return path


def ops(parts: gs.Parts) -> dict[str, list[str]]:
    return {p.name: [n.name for n in p.model.index.nodes if n.kind == "op"] for p in parts}


def test_what_the_compiler_refuses_goes_to_the_host(model: Path, tmp_path: Path) -> None:
    parts = gs.split(model, target=refusing(tmp_path, "delta"))
    assert ops(parts) == {"main": ["alpha", "beta", "gamma"], "post": ["delta", "y"]}
    assert parts.target is not None
    assert parts.target
    assert [(r.op, r.tensor) for r in parts.target.refused] == [("FULLY_CONNECTED", "delta"), ("Decoder", "y")]
    assert [[t.tensor for t in r.tied] for r in parts.target.rounds] == [["delta"], []]
    assert parts.plan is not None
    assert parts.plan.origin.startswith("target mine: ")
    assert "fake" in parts.plan.notes[-1]


def test_where_it_lies_between_layers_main_holds_the_most_and_the_choices_are_told(model: Path, tmp_path: Path) -> None:
    planned = gs.plan(model, target=refusing(tmp_path, "beta"))
    assert [(s.name, s.outputs) for s in planned.sections] == [
        ("pre", ("beta",)),
        ("main", ("delta",)),
        ("post", ("y",)),
    ]
    (told,) = [n for n in planned.notes if "lies between layers" in n]
    assert told.startswith("FULLY_CONNECTED (beta) must stay on the host: too wide")
    assert "25% if it ends before it, 50% if it starts after it" in told
    assert "cut as islands, 4 sections in turn, 2 on the accelerator, hold 75% there" in told


def test_islands_are_fitted_too(model: Path, tmp_path: Path) -> None:
    parts = gs.split(model, target=refusing(tmp_path, "beta"), islands=True)
    assert ops(parts) == {"part_0": ["alpha"], "part_1": ["beta"], "part_2": ["gamma", "delta"], "part_3": ["y"]}
    assert [p.device for p in parts] == ["/gpu:0", "/cpu:0", "/gpu:0", "/cpu:0"]
    assert parts.target is not None
    assert parts.target.sections == ("part_0", "part_2")


def test_the_table_alone_answers_if_nobody_is_to_be_asked(model: Path, tmp_path: Path) -> None:
    parts = gs.split(model, target=refusing(tmp_path, "delta"), ask=False)
    assert ops(parts)["post"] == ["y"]
    assert parts.target is not None
    assert parts.target.compiler is None


def test_the_answer_is_in_the_manifest_and_comes_back(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = refusing(tmp_path, "delta")
    out = tmp_path / "out"
    command = ["split", str(model), "--target", str(target), "-o", str(out), "--no-verify", "--json", "--trust"]
    assert run_cli(command) == 0
    answer = json.loads(capsys.readouterr().out)["target"]
    assert answer["refused"][0] == {"op": "FULLY_CONNECTED", "tensor": "delta", "reason": "too wide"}
    assert answer["rounds"][0]["tied"] == [{"op": "FULLY_CONNECTED", "tensor": "delta", "reason": "too wide"}]
    assert json.loads((out / "split.json").read_text())["target"] == answer
    again = gs.load_parts(out)
    assert again.target is not None
    assert again.target.json() == answer
    gs.save(again, tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "split.json").read_text())["target"] == answer


@pytest.mark.parametrize("wrong", [5, {"target": "x"}, {"refused": 1}, []], ids=str)
def test_an_answer_in_a_manifest_is_checked(wrong: Any, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gs.save(gs.split(model, target=refusing(tmp_path)), out)
    manifest = out / "split.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"target": wrong}))
    with pytest.raises(gs.FormatError, match=r"\$\.target"):
        gs.load_parts(out)


def test_contradictions_and_unknown_targets_are_refused(model: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text("{}")
    target = refusing(tmp_path)
    with pytest.raises(gs.CutError, match="affinity and target both say what the accelerator takes"):
        gs.plan(model, target=target, affinity=table)
    with pytest.raises(gs.CutError, match="affinity and target both"):
        gs.suggest(model, target=target, affinity=table)
    with pytest.raises(gs.CutError, match="outputs/inputs and autocrop both say where to cut"):
        gs.plan(model, target=target, outputs="alpha")
    with pytest.raises(gs.OptionError, match="ethos-u5"):
        gs.plan(model, target="ethos-u5")


def test_suggestions_go_by_the_table(model: Path, tmp_path: Path) -> None:
    cuts = gs.suggest(model, target=refusing(tmp_path, "delta"))
    assert [o.name for o in cuts[0].outputs] == ["delta"]
    assert cuts[0].share == 1


def test_a_float_model_gets_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "float.tflite"
    path.write_bytes(_float())
    target = target_file(tmp_path)
    with pytest.raises(gs.CutError, match="quantise the model first"):
        gs.split(path, target=target)
    cuts = gs.suggest(path, target=target)
    assert (len(cuts), "quantise the model first" in cuts.reason) == (0, True)


def _float() -> bytes:
    import numpy as np

    built = Built()
    x, y = built.main.tensor("x", [1, 4]), built.main.tensor("y", [1, 4])
    weights = built.main.tensor("w", [4, 4], value=np.eye(4))
    built.main.op("FULLY_CONNECTED", [x, weights, -1], [y])
    built.main.ends([x], [y])
    return built.bytes()


REAL = {
    "blazeface_front_128": 1,
    "bodypix_mobilenet_v1_075_512_512_16_quant_decoder": 1,
    "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29": 1,
    "deeplabv3_mnv2_dm05_pascal_quant": 1,
    "model_ToyCar_quant_fullint": 1,
    "movenet_single_pose_lightning_ptq": 2,
    "posenet_mobilenet_v1_075_353_481_16_quant_decoder": 1,
    "ssd_mobilenet_v1_075_quant_pets": 1,
    "yamnet_audio_classifier_with_metadata": 1,
    "yolo_lc_192": 1,
}


@pytest.mark.skipif(not installed(read_target("ethos-u55")), reason="ethos-u-vela (extra `ethos-u`) is not installed")
@pytest.mark.parametrize("name", REAL)
def test_vela_takes_main_of_real_files_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(gzip.decompress(shared_case(f"quantised/{name}.tflite.gz").read_bytes()))
    parts = gs.split(path, target="ethos-u55")
    answer = parts.target
    assert answer is not None
    assert answer.compiler == "vela"
    assert (answer.taken, answer.asked, answer.reason) == (answer.asked, answer.taken, "")
    assert len(answer.rounds) == REAL[name]
    cut = next(iter(gs.suggest(path, target="ethos-u55")), None)
    # The spectrogram of yamnet multiplies in float, which no int8 compiler takes.
    assert cut is not None
    assert cut.share is not None
    assert cut.share >= (0.97 if name.startswith("yamnet") else 0.98)
