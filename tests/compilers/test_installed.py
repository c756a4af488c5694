"""Compilers that are installed: Arm's Vela and OpenVINO, on files built here and on real ones."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.compilers import check, fit
from graphsplit.planning.targets import read_target
from tests.shared import SHARED

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import Built, chain
from tests.quantised import Q, dense, network

vela = pytest.mark.skipif(importlib.util.find_spec("ethosu") is None, reason="ethos-u-vela is not installed")
openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(network("a", "b", custom="Decoder"))
    return path


@vela
@pytest.mark.parametrize("target", ["ethos-u55", "ethos-u65", "ethos-u85"])
def test_vela_refuses_a_custom_op_and_takes_the_rest(target, network_file):
    answer = check(network_file, target=target)
    assert answer.compiler == "vela"
    assert answer.version
    assert (answer.taken, answer.asked) == (2, 3)
    assert [(r.tensor, r.reason) for r in answer.refused] == [("y", "Unsupported opType")]
    assert check(gs.split(network_file, outputs=["b"]), target=target)


@vela
def test_vela_and_the_table_agree_on_float_ends(tmp_path):
    built = Built()
    x = built.main.tensor("x", [1, 16])
    q = built.main.tensor("q", [1, 16], "int8", quantization=Q)
    built.main.op("QUANTIZE", [x], [q])
    last = dense(built.main, q, "layer")
    y = built.main.tensor("y", [1, 16])
    built.main.op("DEQUANTIZE", [last], [y], version=2)
    built.main.ends([x], [y])
    path = tmp_path / "ends.tflite"
    path.write_bytes(built.bytes())
    asked, table = check(path, target="ethos-u55"), check(path, target="ethos-u55", compile=False)
    assert {r.tensor for r in asked.refused} == {r.tensor for r in table.refused} == {"q", "y"}


@vela
def test_a_file_that_vela_cannot_read_is_an_answer(network_file, monkeypatch):
    model = gs.load(network_file)
    monkeypatch.setattr(type(model), "chunks", property(lambda self: iter([memoryview(b"\0\0\0\0TFL3" + bytes(100))])))
    answer = check(model, target="ethos-u55")
    assert answer.reason.startswith(f"vela {answer.version} crashed on net.tflite: ")
    assert answer.taken == 0


@openvino
def test_openvino_names_what_it_has_no_translator_for(network_file, tmp_path):
    answer = check(network_file, target="openvino")
    assert (answer.compiler, answer.taken, answer.asked) == ("openvino", 2, 3)
    assert [(r.op, r.tensor) for r in answer.refused] == [("Decoder", "y")]
    assert "no translator in OpenVINO" in answer.refused[0].reason
    path = tmp_path / "float.tflite"
    path.write_bytes(chain(3).bytes())
    assert check(path, target="openvino")


@openvino
def test_openvino_reads_a_frozen_graph():
    answer = check("demo", target="openvino")
    assert answer.compiler == "openvino"
    assert answer.asked == sum(n.kind == "op" for n in gs.load("demo").index.nodes)


CASES = sorted((SHARED / "cases" / "quantised").glob("*.gz"))


@vela
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES or [None], ids=lambda p: p.name[:20] if p else "none")
def test_main_of_a_real_file_is_taken_whole_when_it_ends_before_what_the_table_refuses(case, tmp_path):
    if case is None:
        pytest.skip("no real files in a folder `shared` beside the repository")
    path = tmp_path / case.name.removesuffix(".gz")
    path.write_bytes(gzip.decompress(case.read_bytes()))
    model = gs.load(path)
    index = model.index

    def make(tied: Mapping[str, str]) -> gs.Parts:
        """main: what depends on no tied node, save on those at the front, and what is behind no other one."""
        order = [n for n in index.nodes if n.kind == "op"]
        front = set()
        for node in order:  # tied nodes that need nothing but tied nodes go before main
            if node.name in tied and all(p in front or index.name_to_node_map[p].kind != "op" for p in index.edges[node.name]):
                front.add(node.name)
        held: set[str] = set()
        for node in order:
            needs = [p for p in index.edges[node.name] if index.name_to_node_map[p].kind == "op"]
            if node.name not in tied and all(p in held or p in front for p in needs):
                held.add(node.name)

        def leaves(some: set[str], to: set[str] | None) -> list[str]:
            return [t for n in order if n.name in some for t in n.outputs
                    if any(c not in some and (to is None or c in to) for c in index.consumers.get(t, ()))]  # fmt: skip

        outputs = leaves(held, None) or None
        return gs.split(model, inputs=leaves(front, held) or None, outputs=outputs)

    _, answer = fit(model, read_target("ethos-u55"), make)
    assert answer.compiler == "vela"
    assert answer.whole, answer.reason
    assert len(answer.rounds) <= 3
