"""Damaged and hostile .tflite files: a FormatError, no crash, no hang, nothing written. No native code sees them here."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.formats.tflite.reader import TFLiteReader
from tests.shared import shared_model

pytest.importorskip("flatbuffers")
_SEED = 20
_SLOWEST = 10.0  # seconds of the processor for one file; a hang is longer


@pytest.fixture(scope="module")
def small() -> bytes:
    """A section of a real model, without the weights that would be most of what is hit."""
    model = gs.load(shared_model("face_detection_short_range.tflite"))
    whole = model.index.nodes
    operators = [n for n in whole if n.kind not in ("input", "const")][:12]
    last = operators[-1].outputs[0]
    constants = {n.name for n in whole if n.kind == "const"}
    read = {t for n in operators for t in n.inputs}
    kept = [n.name for n in operators] + sorted(constants & read)
    made, _ = model.section(kept, model.inputs, [last])
    return bytes(made.serialized())


def _crop(data: bytes) -> bool:
    """Read a file and cut it in the middle; whether it was let through."""
    started = time.process_time()
    try:
        model = TFLiteModel(data)
        nodes = [n for n in model.index.nodes if n.kind not in ("input", "const")]
        if nodes:
            middle = nodes[len(nodes) // 2].outputs
            gs.split(model, outputs=[middle[0]], shapes=False) if middle else None
    except gs.GraphSplitError:
        return False
    finally:
        assert time.process_time() - started < _SLOWEST
    return True


def _outside_of_weights(data: bytes) -> list[int]:
    """Where tables, lists and names are."""
    reader = TFLiteReader(memoryview(data))
    weights = [bytes(reader.content(b)) for b in range(len(reader.buffers))]
    inside: set[int] = set()
    for content in weights:
        at = data.find(content) if len(content) > 16 else -1
        if at >= 0:
            inside.update(range(at, at + len(content)))
    return [i for i in range(len(data) - 4) if i not in inside]


def _mutated(data: bytes, tables: list[int], chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        # Most of a file is weights, which may be anything: nine times in ten what is hit is not among them.
        place = chance.choice(tables) if chance.random() < 0.9 else chance.randrange(len(found) - 4)
        place = min(place, len(found) - 4)
        kind = chance.randrange(4)
        if kind == 0:
            found[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            struct.pack_into("<I", found, place & ~3, chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, len(found))))
        elif kind == 2:
            struct.pack_into("<i", found, place & ~3, chance.randrange(-len(found), len(found)))
        else:
            del found[place:]
            break
        if len(found) < 16:
            break
    return bytes(found)


def _many(small: bytes, count: int) -> None:
    chance = random.Random(_SEED)
    tables = _outside_of_weights(small)
    refused = sum(not _crop(_mutated(small, tables, chance)) for _ in range(count))
    assert count / 4 < refused < count  # some were damaged where it matters, some where it does not


def test_two_thousand_mutated_files_are_refused_or_read(small: bytes) -> None:
    assert _crop(small)
    _many(small, 2000)


def test_truncated_files_are_refused(small: bytes, tmp_path: Path) -> None:
    for length in (0, 1, 4, 7, 8, 12, 40, len(small) // 4, len(small) // 2, len(small) - 64):
        path = tmp_path / f"{length}.tflite"
        path.write_bytes(small[:length])
        with pytest.raises(gs.FormatError):
            gs.load(path)


def test_another_identifier_is_refused(small: bytes) -> None:
    with pytest.raises(gs.FormatError, match="TFL3"):
        TFLiteModel(small[:4] + b"TFL2" + small[8:]).index  # noqa: B018


def _overlapping(count: int) -> bytes:
    """Subgraphs, each with a list of tensors that is the same list: count x count tables in a file of a few hundred kB."""
    model_vtable = struct.pack("<HHHHH", 10, 8, 0, 0, 4)  # Model: only subgraphs
    graph_vtable = struct.pack("<HHH", 6, 8, 4)  # SubGraph: only tensors
    tensor_vtable = struct.pack("<HH", 4, 4)
    data = bytearray(struct.pack("<I4s", 0, b"TFL3"))
    vtables = [len(data)]
    for vtable in (model_vtable, graph_vtable, tensor_vtable):
        data += vtable
        data += b"\0" * (-len(data) % 4)
        vtables.append(len(data))
    model = len(data)
    struct.pack_into("<I", data, 0, model)
    graphs = model + 8
    first_graph = graphs + 4 + 4 * count
    tensors = first_graph + 8 * count
    first_tensor = tensors + 4 + 4 * count
    data += struct.pack("<iI", model - vtables[0], 4)
    data += struct.pack("<I", count)
    data += b"".join(struct.pack("<I", first_graph + 8 * i - (graphs + 4 + 4 * i)) for i in range(count))
    for i in range(count):
        here = first_graph + 8 * i
        data += struct.pack("<iI", here - vtables[1], tensors - (here + 4))
    data += struct.pack("<I", count)
    data += b"".join(struct.pack("<I", first_tensor + 4 * i - (tensors + 4 + 4 * i)) for i in range(count))
    for i in range(count):
        data += struct.pack("<i", first_tensor + 4 * i - vtables[2])
    return bytes(data)


def test_lists_that_share_their_bytes_do_not_multiply() -> None:
    """A file of 200 kB whose lists all are the same one would be a hundred million tables."""
    started = time.process_time()
    with pytest.raises(gs.FormatError, match="more than once"):
        TFLiteModel(_overlapping(10_000)).index  # noqa: B018
    assert time.process_time() - started < _SLOWEST


def test_a_list_of_the_hostile_file_that_is_not_shared_is_read() -> None:
    """The file above with one subgraph is legal: what is refused is the sharing."""
    assert len(TFLiteReader(memoryview(_overlapping(1))).subgraphs) == 1
