"""Pictures of plans: what is on them, that it can be read, and that names stay names."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest

import graphsplit as gs
from graphsplit.diagram.colours import legend, tint
from graphsplit.diagram.layout import Item, arrange, layers
from graphsplit.diagram.page import page_of
from graphsplit.diagram.scopes import collapse
from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.text import shortened
from graphsplit.planning.cuts import Cut
from graphsplit.planning.planner import plan_sections
from tests.shared import shared_model
from tests.viewer.conftest import chain

SVG = "{http://www.w3.org/2000/svg}"


def index_of(*names: str) -> GraphIndex:
    nodes = [Node("x", "Placeholder", (), ("x:0",), kind="input")]
    for before, name in zip(("x", *names), names, strict=False):
        nodes.append(Node(name, "Relu", (f"{before}:0",), (f"{name}:0",)))
    return GraphIndex(tuple(nodes), {}, ("x:0",), (f"{names[-1]}:0",))


def boxes(svg: str, kind: str) -> list[tuple[float, float, float, float]]:
    """x, y, width, height of what is drawn as `kind`."""
    found = []
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        if group.get("class") == kind:
            box = group.find(f"{SVG}rect")
            found.append(tuple(float(box.get(k)) for k in ("x", "y", "width", "height")))
    return found


def texts(svg: str) -> list[str]:
    return ["".join(t.itertext()) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


# scopes


def test_scopes_are_opened_as_long_as_there_is_room():
    index = index_of("a/b/c", "a/b/d", "a/e", "f")
    names = [n.name for n in index.nodes]
    assert [c.title for c in collapse(index, names, 2)] == ["a", "f"]
    assert [c.title for c in collapse(index, names, 3)] == ["a/b", "a/e", "f"]
    assert [c.title for c in collapse(index, names, 9)] == ["a/b/c", "a/b/d", "a/e", "f"]


@pytest.mark.parametrize("room", [1, 2, 5, 12])
def test_every_node_is_in_one_cluster_and_clusters_fit_the_room(room):
    index = index_of(*(f"s{i % 7}/t{i % 3}/n{i}" for i in range(60)), *(f"flat{i}" for i in range(200)))
    clusters = collapse(index, [n.name for n in index.nodes], room)
    assert sorted(n for c in clusters for n in c.nodes) == sorted(n.name for n in index.nodes if n.kind == "op")
    assert len(clusters) <= max(room, 1) + 8


def test_names_without_scopes_are_divided_into_runs():
    clusters = collapse(index_of(*(f"n{i}" for i in range(100))), [f"n{i}" for i in range(100)], 8)
    assert [len(c.nodes) for c in clusters] == [13] * 7 + [9]
    assert clusters[0].title == "n0 … n12"


def test_a_scope_whose_name_is_a_node_too_is_no_endless_search():
    index = index_of("a", "a/a", "a/a/a", "a/a/b")
    assert sum(len(c.nodes) for c in collapse(index, ["a", "a/a", "a/a/a", "a/a/b"], 3)) == 4


# places


def test_edges_go_downwards_and_a_cycle_is_drawn_all_the_same():
    found = layers(["a", "b", "c", "d"], [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("a", "d")], 4)
    assert found == [["a"], ["b"], ["c"], ["d"]]
    assert [len(row) for row in layers([str(i) for i in range(10)], [], 4)] == [4, 4, 2]


def test_neighbours_never_overlap_and_stand_under_what_feeds_them():
    items = [Item("top", 0, 100, 40)] + [Item(str(i), 1, 100, 40) for i in range(5)] + [Item("low", 2, 100, 40)]
    placed = arrange(items, [("top", str(i)) for i in range(5)] + [("top", "low")])
    row = sorted(placed.centres[str(i)] for i in range(5))
    assert all(b - a >= 100 for a, b in pairwise(row))
    assert abs(placed.centres["top"] - sum(row) / 5) < 60
    assert len(placed.paths["top", "low"]) == 3


def test_a_long_name_keeps_its_end():
    assert shortened("a" * 50 + "the_end", 20).endswith("the_end")
    assert len(shortened("x" * 100, 20)) == 20
    assert shortened("short", 20) == "short"


# pictures


def test_a_picture_has_sections_scopes_and_labelled_borders(model):
    svg = gs.draw(model, gs.plan(model, outputs="net/head")).svg
    words = texts(svg)
    assert {"main3 nodes", "post2 nodes", "1 tensor crosses, 16 B a frame"} <= set(words)
    assert "net/head:0" in words
    assert "float32 [?, 4] · 16 B" in words
    assert len(boxes(svg, "section")) == 2
    assert len(boxes(svg, "border")) == 1
    assert len(boxes(svg, "input")) == 1
    assert len(boxes(svg, "output")) == 1


def test_sections_contain_their_scopes_and_the_border_lies_between_them(demo_model):
    svg = gs.draw(demo_model, gs.plan(demo_model), shapes=False).svg
    (_, main_top, _, main), (_, post_top, _, _) = boxes(svg, "section")
    assert main_top + main < post_top
    for _, y, _, height in boxes(svg, "border"):
        assert main_top + main < y + 6
        assert y + height < post_top + 6
    for x, y, width, height in boxes(svg, "scope"):
        for other in boxes(svg, "scope"):
            if other != (x, y, width, height):
                assert other[0] >= x + width or other[0] + other[2] <= x or other[1] >= y + height or other[1] + other[3] <= y


@pytest.mark.parametrize("room", ["scope", "border", "input", "output"])
def test_nothing_lies_outside_of_the_picture(demo_model, room):
    svg = gs.draw(demo_model, gs.plan(demo_model), shapes=False).svg
    root = ElementTree.fromstring(svg)
    for x, y, width, height in boxes(svg, room):
        assert x >= 0
        assert y >= 0
        assert x + width <= float(root.get("width"))
        assert y + height <= float(root.get("height"))


def test_a_model_of_hundreds_of_nodes_is_drawn_with_a_few_dozen(demo_model):
    assert len(demo_model.index.nodes) > 1000
    assert len(boxes(gs.draw(demo_model, gs.plan(demo_model), shapes=False).svg, "scope")) <= 48


def test_pre_and_post_have_one_tint_and_main_another():
    assert tint("pre") == tint("post") != tint("main")
    assert len({tint(f"part_{i}") for i in range(5)}) == 5
    assert [name for name, _ in legend(["pre", "main", "post"])] == ["pre, post", "main"]


def test_a_tensor_that_was_added_is_told(demo_model):
    plan = gs.plan(demo_model, outputs="Postprocessor/Slice")
    words = " ".join(texts(gs.draw(demo_model, plan, shapes=False).svg))
    assert plan.added
    assert "· added" in words


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a&b<c>\"d'", "\x01\x02bell", "]]>"])
def test_a_hostile_name_stays_a_name(tmp_path, hostile):
    # Written as a pbtxt escape, since a name may hold any character.
    quoted = hostile.replace('"', '\\"').replace("'", "\\'").replace("\x01", "\\001").replace("\x02", "\\002")
    model = gs.load(chain(tmp_path / "m.pbtxt", quoted, "b"))
    plan = gs.plan(model, outputs=model.index.nodes[1].name)
    end = gs.load(chain(tmp_path / "end.pbtxt", "b", quoted))  # a name among the outputs is in the tables, too
    page = gs.draw(end, gs.plan(end, outputs="b")).save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert not set("<>&") & set(hostile) or hostile not in page
    for svg in (gs.draw(model, plan).svg, gs.draw(plan).svg, gs.draw(model).svg):
        assert "<script" not in svg
        ElementTree.fromstring(svg)


# what is drawn


def test_parts_from_a_folder_are_drawn_too(model, tmp_path):
    parts = gs.split(model, outputs="net/head")
    gs.save(parts, tmp_path / "out")
    words = texts(gs.draw(gs.load_parts(tmp_path / "out")).svg)
    assert {"main4 nodes", "net/head:0", "float32 [?, 4] · 16 B"} <= set(words)
    assert {"main3 nodes", "net/head:0", "float32 [?, 4] · 16 B"} <= set(texts(gs.draw(parts).svg))


def test_paths_are_drawn_like_what_they_hold(model, tmp_path):
    gs.save(gs.split(model, outputs="net/head"), tmp_path / "out")
    assert gs.draw(model.path).svg == gs.draw(str(model.path)).svg == gs.draw(model).svg
    split = gs.draw(gs.load_parts(tmp_path / "out")).svg
    assert gs.draw(tmp_path / "out").svg == gs.draw(tmp_path / "out" / "split.json").svg == split


def test_one_part_is_drawn_with_its_inputs_and_outputs(model):
    words = texts(gs.draw(gs.split(model, outputs="net/head")["post"]).svg)
    assert {"post3 nodes", "net/head:0", "post/out:0", "one section, nothing crosses"} <= set(words)


def test_a_plan_alone_is_drawn_from_the_names_it_holds(model):
    plan = plan_sections(model.index, [Cut("main", ("net/head:0",))], last="post")
    picture = gs.draw(plan)
    assert {"main3 nodes", "net", "3 nodes", "net/head:0", "post2 nodes", "1 tensor crosses"} <= set(texts(picture.svg))
    assert len(boxes(picture.svg, "scope")) == 2
    assert "Border tensors" in page_of(picture)


def test_a_plan_is_drawn_in_detail_with_its_model(model):
    plan = plan_sections(model.index, [Cut("main", ("net/head:0",))], last="post")
    svg = gs.draw(model, plan).svg
    assert {"net/conv/a", "float32 [?, 4] · 16 B"} <= set(texts(svg))
    assert gs.draw(plan, model=model).svg == gs.draw(plan, model=model.path).svg == gs.draw(model.path, plan).svg == svg


def test_only_a_plan_and_its_model_are_drawn_together(model):
    plan = gs.plan(model, outputs="net/head")
    for given in ((plan, plan), (gs.split(model, plan), plan), (gs.split(model, plan)["main"], plan)):
        with pytest.raises(gs.CutError, match=r"drawn together: draw\(model, plan\)"):
            gs.draw(*given)
    for what, other in ((model, model), (gs.split(model, plan), model), (plan, gs.split(model, plan))):
        with pytest.raises(gs.CutError, match=r"drawn together: draw\(model, plan\)"):
            gs.draw(what, model=other)


def test_a_tflite_model_is_drawn():
    model = gs.load(shared_model("face_detection_short_range.tflite"))
    svg = gs.draw(model).svg
    assert "float32 [1, 128, 128, 3] · 196.6 KB" in texts(svg)
    assert len(boxes(svg, "scope")) > 3


# files


def test_a_picture_is_saved_as_svg_png_and_page(model, tmp_path):
    picture = gs.draw(model, gs.plan(model, outputs="net/head"))
    pytest.importorskip("resvg_py", reason="PNG needs the extra `view`")
    assert picture.save(tmp_path / "a.svg").read_text(encoding="utf-8") == picture.svg
    assert picture.save(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    page = picture.save(tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<h2>Section inputs and outputs</h2>" in page
    assert "net/head:0" in page
    assert not re.search(r"<script|src=|@import|https?://(?!www\.w3\.org/2000/svg)", page)


def test_a_png_shows_something(model):
    pytest.importorskip("resvg_py", reason="PNG needs the extra `view`")
    from io import BytesIO

    from PIL import Image

    image = Image.open(BytesIO(gs.draw(model, gs.plan(model, outputs="net/head")).png())).convert("RGB")
    colours = {c for _, c in image.getcolors(maxcolors=1 << 24)}
    assert {(0xE3, 0xEE, 0xFB), (0xFD, 0xEE, 0xDD), (0xFF, 0xF7, 0xC2)} <= colours  # main, post, a border tensor


def test_nothing_is_written_over_and_an_unknown_suffix_is_refused(model, tmp_path):
    picture = gs.draw(model, gs.plan(model, outputs="net/head"))
    (tmp_path / "a.svg").write_text("mine")
    with pytest.raises(gs.OverwriteError, match="exists already"):
        picture.save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text() == "mine"
    picture.save(tmp_path / "a.svg", overwrite=True)
    with pytest.raises(gs.FormatError, match=r"written as \.svg, \.png or \.html; use one"):
        picture.save(tmp_path / "a.jpg")


def test_png_without_its_library_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(gs.MissingExtraError, match=r"graphsplit\[view\]"):
        gs.draw(model, gs.plan(model, outputs="net/head")).png()


def test_a_legend_that_does_not_fit_is_left_out(tmp_path):
    names = [f"n{i}" for i in range(14)]
    model = gs.load(chain(tmp_path / "m.pbtxt", *names))
    several = gs.draw(model, gs.plan(model, outputs=[[n] for n in names[:12]]), shapes=False).svg
    few = gs.draw(model, gs.plan(model, outputs="n3"), shapes=False).svg
    assert ('y="44.5"' in several, 'y="44.5"' in few) == (False, True)
