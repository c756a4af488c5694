"""One of several signatures: of a SavedModel, of its meta graphs, of a TFLite file. Chosen by name, kept in the manifest.

graphsplit split m --signature head -o o        note: signature 'head' of the file; left out: signature 'feat'
graphsplit verify o                             the whole is opened again with that signature
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphsplit import load
from graphsplit.cli import run
from graphsplit.errors import CutError, FormatError, OptionError
from graphsplit.formats import ModelFile
from graphsplit.inference.sessions import open_session
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.rewrites.opening import open_model_or_parts, whole_of
from graphsplit.splitting.suggestions import suggest
from graphsplit.splitting.surgery import plan, split
from graphsplit.verification.equivalence import verify
from graphsplit.viewer.commands import split_command
from graphsplit.viewer.session import open_model
from tests.formats.tflite.builder import Built

v1 = tf.compat.v1


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


class Two(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(tf.ones([3, 3, 3, 4]))

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, "x")])
    def feat(self, x: Any) -> Any:
        return {"f": tf.nn.conv2d(x, self.w, 1, "SAME")}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "v")])
    def head(self, v: Any) -> Any:
        return {"c": tf.argmax(v, 1)}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module, path = Two(), tmp_path_factory.mktemp("two") / "m"
    tf.saved_model.save(module, str(path), signatures={"feat": module.feat, "head": module.head})
    return path


Signatures = dict[str, tuple[dict[str, Any], dict[str, Any]]]


def served(path: Path, build: Callable[[], Signatures], tags: tuple[str, ...] = ("serve",)) -> Path:
    """A SavedModel of TensorFlow 1."""
    with tf.Graph().as_default(), v1.Session() as session:
        info = v1.saved_model.build_tensor_info
        signatures = {
            key: v1.saved_model.build_signature_def(*({k: info(t) for k, t in end.items()} for end in ends), "predict")
            for key, ends in build().items()
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, list(tags), signature_def_map=signatures)
        builder.save()
    return path


# SavedModels


def test_a_signature_is_chosen_by_name_and_the_others_are_named(two: Path) -> None:
    model = load(two, signature="head")
    assert dict(model.signature) == {"v": "v:0", "c": "Identity:0"}
    assert model.choice.notes == ("signature 'head' of the file; left out: signature 'feat'",)
    assert model.choice.notes[0] in plan(model).notes


@pytest.mark.parametrize(
    ("asked", "hint"), [("haed", "did you mean 'head'"), ("FEAT", "did you mean 'feat'"), ("zzz", "there are 'feat', 'head'")]
)
def test_a_misspelt_signature_is_an_error_with_the_nearest(two: Path, asked: str, hint: str) -> None:
    with pytest.raises(OptionError, match=f"no signature '{asked}'; {hint}"):
        load(two, signature=asked)


def test_the_usual_signature_of_a_hub_module_is_taken(tmp_path: Path) -> None:
    def build() -> Signatures:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        w = v1.get_variable("w", [4, 4], use_resource=False)
        return {"default": ({"x": x}, {"default": tf.matmul(x, w)}), "image_feature_vector": ({"x": x}, {"default": tf.nn.relu(x)})}

    model = load(served(tmp_path / "hub", build, tags=()))
    assert (model.choice.name, model.choice.tags) == ("default", ())
    assert model.choice.notes == ("signature 'default' of the file; left out: signature 'image_feature_vector'",)
    assert load(tmp_path / "hub", tags="").choice.tags == ()


def parsed() -> Signatures:
    """Inputs that the graph computes: ParseExample, an Identity, another port than the first, an input that is an output."""
    text = v1.placeholder(tf.string, [None], name="tf_example")
    features = {"x": tf.io.FixedLenFeature([2], tf.float32), "y": tf.io.FixedLenFeature([2], tf.float32)}
    example = v1.io.parse_example(text, features)
    x, y = tf.identity(example["x"], name="x"), example["y"]
    w = v1.get_variable("w", [2], initializer=v1.ones_initializer(), use_resource=False)
    out = tf.add(x * w, 1.0, name="out")
    one, two = tf.split(y, 2, 1, name="halves")
    both = tf.add(one, two * 3.0, name="both")
    return {
        "serving_default": ({"x": x}, {"out": out}),
        "classify": ({"inputs": text}, {"out": out}),
        "second": ({"two": two}, {"twice": tf.multiply(two, 2.0, name="twice")}),
        "ports": ({"one": one, "two": two}, {"both": both}),
        "same": ({"x": x}, {"x_too": tf.identity(x, name="x_too"), "out": out}),
    }


@pytest.fixture(scope="module")
def parsing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served(tmp_path_factory.mktemp("parsing") / "m", parsed)


@pytest.mark.parametrize(
    ("name", "feeds", "expected"),
    [
        ("serving_default", {"x": [[1.0, 2.0]]}, [[2.0, 3.0]]),
        ("second", {"two": [[2.0]]}, [[4.0]]),
        ("ports", {"one": [[1.0]], "two": [[2.0]]}, [[7.0]]),
        ("same", {"x": [[1.0, 2.0]]}, [[2.0, 3.0]]),
    ],
)
def test_the_tensors_of_a_signature_are_its_inputs_even_if_they_are_computed(
    parsing: Path, name: str, feeds: dict[str, Any], expected: Any, tmp_path: Path
) -> None:
    model = load(parsing, signature=name)
    assert {model.signature.inputs[k] for k in feeds} == {s.name for s in model.inputs}, "the text is not fed"
    assert all(s.dtype == "float32" and s.shape is not None for s in model.inputs)
    values = {model.signature.inputs[k]: np.array(v, np.float32) for k, v in feeds.items()}
    key = "out" if "out" in model.signature.outputs else next(iter(model.signature.outputs))
    assert open_session(model).run(values, [model.signature.outputs[key]])[0].tolist() == expected
    parts = split(model)
    assert verify(model, parts).equal
    save(parts, tmp_path / "o")
    again = load_parts(tmp_path / "o")
    assert verify(whole_of(again), again).equal


def test_a_signature_that_is_fed_at_placeholders_stays_as_it_is(parsing: Path) -> None:
    assert [s.name for s in load(parsing, signature="classify").inputs] == ["tf_example:0"]


def counting(resource: bool) -> Callable[[], Signatures]:
    def build() -> Signatures:
        counter = v1.get_variable("counter", [], initializer=v1.zeros_initializer(), use_resource=resource)
        delta = v1.placeholder(tf.float32, [], name="delta")
        return {
            "get": ({}, {"out": tf.identity(counter, name="get")}),
            "add": ({"delta": delta}, {"out": tf.identity(v1.assign_add(counter, delta, name="adding"), name="add")}),
            "reset": ({}, {"out": tf.identity(v1.assign(counter, 0.0, name="resetting"), name="reset")}),
        }

    return build


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", ["add", "reset"])
def test_a_signature_that_changes_a_variable_names_those_that_do_not(resource: bool, name: str, tmp_path: Path) -> None:
    path = served(tmp_path / "m", counting(resource))
    with pytest.raises(
        FormatError, match=rf"signature '{name}' changes a variable each time it runs \(.*choose another with .*: get$"
    ):
        load(path, signature=name)
    assert [s.name for s in load(path, signature="get").outputs] == ["get:0"]


# TFLite


def signatures(*, shared: bool = False, called: bool = False, first: bool = True) -> Built:
    """x ─▶ ADD, v ─▶ MUL and w ─▶ RELU ─▶ RELU in a subgraph each, with constants of their own."""
    built = Built()
    main = built.main
    x, one = main.tensor("x", (1, 4)), main.tensor("one", (4,), value=np.ones(4))
    y = main.add(x, one, "y")
    main.ends([x], [y])
    if first:
        built.signature("add", {"x": x}, {"y": y})
    if shared:
        built.signature("same", {"in": x}, {"out": y})
    second = built.graph("mul")
    v, three = second.tensor("v", (1, 3)), second.tensor("three", (3,), value=np.full(3, 3))
    u = second.like(v, "u")
    second.op("MUL", [v, three], [u])
    second.ends([v], [u])
    third = built.graph("twice")
    w = third.tensor("w", (1, 2))
    third.ends([w], [third.relu(third.relu(w, "r"), "s")])
    built.signature("mul", {"v": v}, {"u": u}, subgraph=1)
    built.signature("twice", {"w": w}, {"s": 2}, subgraph=2)
    if called:
        flag = main.tensor("flag", (), "bool", value=True)
        main.op("IF", [flag, main.tensor("z", (1, 3), value=np.ones((1, 3)))], [main.tensor("t", (1, 3))],
                thenSubgraphIndex=1, elseSubgraphIndex=1)  # fmt: skip
    return built


def written(folder: Path, built: Built, **more: Any) -> Path:
    path = folder / "m.tflite"
    path.write_bytes(built.bytes(**more))
    return path


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    ("name", "feed", "expected"),
    [(None, {"x": (1, 4)}, 2.0), ("add", {"x": (1, 4)}, 2.0), ("mul", {"v": (1, 3)}, 3.0), ("twice", {"w": (1, 2)}, 1.0)],
)
def test_a_signature_of_a_tflite_file_is_its_subgraph(
    name: str | None, feed: dict[str, tuple[int, ...]], expected: float, behind: bool, tmp_path: Path
) -> None:
    model = load(written(tmp_path, signatures(), behind=behind), signature=name)
    assert [s.name for s in model.inputs] == list(feed)
    values = {t: np.ones(shape, np.float32) for t, shape in feed.items()}
    assert set(open_session(model).run(values, [model.outputs[0].name])[0].ravel()) == {expected}
    others = [f"'{n}'" for n in ("add", "mul", "twice") if n != (name or "add")]
    assert model.choice.notes == (f"signature {name or 'add'!r} of the file; left out: signatures {', '.join(others)}",)
    parts = split(model)
    assert verify(model, parts).equal
    save(parts, tmp_path / "o")
    again = load_parts(tmp_path / "o")
    assert again.source.signature == (name or "add")
    assert verify(whole_of(again), again).equal


def test_two_signatures_of_one_subgraph_have_their_own_keys(tmp_path: Path) -> None:
    path = written(tmp_path, signatures(shared=True))
    assert dict(load(path).signature) == {"x": "x", "y": "y"}
    assert dict(load(path, signature="same").signature) == {"in": "x", "out": "y"}


def test_a_file_whose_first_subgraph_has_no_signature(tmp_path: Path) -> None:
    path = written(tmp_path, signatures(first=False))
    assert load(path).choice.notes == ("the graph of the file; left out: signatures 'mul', 'twice'",)
    assert [s.name for s in load(path, signature="mul").outputs] == ["u"]


def test_a_subgraph_that_another_one_calls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"subgraph 1 of signature 'mul' is also called by subgraph 0"):
        load(written(tmp_path, signatures(called=True)), signature="mul")


def test_a_cut_in_a_later_signature_is_proven(tmp_path: Path) -> None:
    model = load(written(tmp_path, signatures()), signature="twice")
    parts = split(model, outputs=["r"])
    assert [p.name for p in parts] == ["main", "post"]
    assert verify(model, parts).equal


# options that do not fit


@pytest.mark.parametrize(
    ("path", "options", "why"),
    [
        ("demo", {"signature": "x"}, r"signature=… is for a SavedModel folder or a \.tflite file, and this is a GraphDef"),
        ("demo", {"tags": "x"}, "tags=… is for a SavedModel folder, and this is a GraphDef"),
        (ModelFile("demo", "x"), {}, "signature=… is for"),
        ("demo", {"tags": 3}, "tags are strings, not 3"),
    ],
)
def test_what_a_format_lacks_is_not_chosen(path: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(OptionError, match=why):
        load(path, **options)


def test_a_tflite_file_has_no_tags(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="tags=… is for a SavedModel folder, and this is a TFLite file"):
        load(written(tmp_path, signatures()), tags=["serve"])


def test_a_split_states_its_signature(two: Path, tmp_path: Path) -> None:
    save(split(load(two, signature="feat")), tmp_path / "o")
    with pytest.raises(CutError, match=r"a split states the signature of its model; pass the model to choose another"):
        open_model_or_parts(ModelFile(str(tmp_path / "o"), "head"))


def test_a_path_with_its_choice_survives_another_process() -> None:
    path = pickle.loads(pickle.dumps(ModelFile("m", "head", "serve")))
    assert (path, path.signature, path.tags) == ("m", "head", "serve")


# the command line


@pytest.mark.parametrize("command", ["show", "suggest", "plan", "split", "export", "rewrite", "view", "check"])
def test_every_command_that_reads_a_model_takes_a_signature(
    command: str, two: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = {
        "split": ["-o", str(tmp_path / "o")],
        "export": ["--to", "saved_model", "-o", str(tmp_path / "o")],
        "rewrite": ["-o", str(tmp_path / "o.pb")],
        "view": ["--html", str(tmp_path / "o.html")],
        "check": ["--target", "ethos-u55", "--no-ask"],
    }.get(command, [])
    assert run([command, str(two), *more]) == 1
    assert "none is 'serving_default': feat, head; name one with --signature NAME" in capfd.readouterr().err
    assert run([command, str(two), *more, "--signature", "feat", "--tags=gpu"]) == 1
    assert "no meta graph tagged {gpu}; there are {serve}" in capfd.readouterr().err
    status = run([command, str(two), *more, "--signature", "feat", "--tags=serve"])
    assert status == 0 or command == "check", capfd.readouterr().err
    assert "signature" not in capfd.readouterr().err


def test_show_lists_what_there_is(two: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(two), "--signature=head", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["signature"] == {"v": "v:0", "c": "Identity:0"}
    assert (answer["signature_name"], answer["signatures"]) == ("head", ["feat", "head"])
    assert (answer["tags"], answer["meta_graphs"]) == (["serve"], [["serve"]])
    assert run(["show", str(two), "--signature=head"]) == 0
    assert "note: signature 'head' of the file; left out: signature 'feat'" in capfd.readouterr().out


def test_the_manifest_keeps_the_choice_and_verify_follows_it(two: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["split", str(two), "--signature=feat", "-o", str(tmp_path / "o")]) == 0
    source = json.loads((tmp_path / "o" / "split.json").read_text())["source"]
    assert (source["signature"], source["tags"]) == ("feat", ["serve"])
    assert run(["verify", str(tmp_path / "o")]) == 0
    assert run(["verify", str(tmp_path / "o"), "--model", str(two)]) == 0
    assert run(["verify", str(tmp_path / "o"), "--model", str(two), "--signature=head"]) == 1
    assert "the model has no input 'x:0'" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        run(["verify", str(tmp_path / "o"), "--signature=head"])
    assert "name one with --model" in capfd.readouterr().err


def test_printed_commands_name_the_signature(two: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["suggest", str(two), "--signature=feat"]) == 0
    assert f"graphsplit split {two} --signature feat --outputs" in capfd.readouterr().out
    session = open_model(ModelFile(str(two), "feat"), outputs=["StatefulPartitionedCall/Conv2D"])
    command, _ = split_command(session.model, session.cut)
    assert command is not None
    assert "--signature feat" in command


def test_suggest_takes_a_path_with_its_choice(two: Path) -> None:
    assert suggest(ModelFile(str(two), "feat"), limit=1)[0].outputs[0].name == "StatefulPartitionedCall/Conv2D:0"
