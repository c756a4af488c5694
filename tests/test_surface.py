"""What people type: paths for models, names without ports, options that are misspelt, models in memory."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphsplit as gs
from graphsplit.demo import data
from graphsplit.formats.graphdef.model import GraphDefModel
from tests.graphs import model as built
from tests.graphs import node, placeholder

tf = pytest.importorskip("tensorflow")

DEMO = Path(str(data.model()))
TARGETS = ["Postprocessor/Slice", "Postprocessor/ExpandDims_1", "Postprocessor/stack_1"]


@pytest.fixture
def relus(tmp_path: Path) -> Path:
    """x ─▶ a ─▶ b ─▶ y"""
    whole = built(placeholder("x", shape=[None, 3]), node("a", "Relu", "x"), node("b", "Neg", "a"), node("y", "Relu", "b"))
    return whole.save(tmp_path / "relus.pb")


def test_a_path_will_do_wherever_a_model_is_expected(relus, tmp_path):
    x = {"x": np.float32([[1, -2, 3]])}
    planned = gs.plan(relus, outputs="a")
    parts = gs.split(str(relus), planned)
    assert gs.verify(relus, parts, x)
    folder = gs.save(parts, tmp_path / "out")
    assert gs.verify(str(relus), folder, x)
    assert len(gs.suggest(relus)) == 0
    assert gs.draw(relus).svg.startswith("<svg")
    with gs.Pipeline(folder, devices={"main": "/cpu:0"}) as pipe:
        assert pipe.run(x)["y:0"].tolist() == [[0, 0, 0]]
    assert gs.place(folder, {"main": "/cpu:0"}).run(x)["y:0"].tolist() == [[0, 0, 0]]


def test_names_of_a_list_are_outputs(relus):
    assert [s.name for s in gs.split(relus, ["a", "b"])] == ["main", "post"]
    assert gs.split(relus, "a").plan == gs.split(relus, outputs=["a"]).plan
    with pytest.raises(gs.CutError, match="the second argument and outputs both say where to cut"):
        gs.split(relus, "a", outputs="b")


def test_the_shipped_model_has_a_name(monkeypatch, tmp_path):
    assert gs.load("demo").path == DEMO.resolve()
    assert gs.plan("demo", shapes=False).origin.startswith("preset ssd_2018")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("no model")
    with pytest.raises(gs.FormatError):  # a file of that name comes first
        gs.load("demo")


def scaled() -> object:
    class Scaled(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": tf.nn.relu(x * self.factor)}

    return Scaled()


def doubled() -> object:
    return tf.function(lambda x: tf.nn.relu(x * 2.0), input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])


def keras_model() -> object:
    import keras

    inputs = keras.Input((3,), name="x")
    return keras.Model(inputs, keras.layers.Dense(2, kernel_initializer="ones", activation="relu", name="y")(inputs))


def saved_and_loaded(folder: Path) -> object:
    tf.saved_model.save(scaled(), str(folder / "saved"))
    return tf.saved_model.load(str(folder / "saved"))


def frozen_graph() -> object:
    with tf.Graph().as_default() as graph:
        tf.nn.relu(tf.compat.v1.placeholder(tf.float32, [None, 3], "x") * 2.0, name="y")
    return graph


IN_MEMORY: dict[str, Callable[[Path], object]] = {
    "a tf.Graph": lambda _: frozen_graph(),
    "a GraphDef": lambda _: frozen_graph().as_graph_def(),
    "a tf.Module": lambda _: scaled(),
    "a tf.function": lambda _: doubled(),
    "a ConcreteFunction": lambda _: doubled().get_concrete_function(),
    "a Keras model": lambda _: keras_model(),
    "a loaded SavedModel": saved_and_loaded,
}


@pytest.mark.parametrize("make", IN_MEMORY.values(), ids=IN_MEMORY)
def test_models_in_memory_are_loaded_and_split(make, tmp_path):
    model = gs.load(make(tmp_path))
    model.check_frozen()
    target = next(n.name for n in model.index.nodes if n.op == "Relu")
    assert gs.verify(model, gs.split(model, outputs=target))


def test_what_is_not_a_model_says_what_is(tmp_path):
    with pytest.raises(gs.FormatError, match=r"^dict is not a model; pass a path, a GraphDef, a tf\.Graph"):
        gs.load({})
    with pytest.raises(gs.FormatError, match=r"has no input signature; pass tf\.function"):
        gs.load(tf.function(lambda x: x))
    with tf.Graph().as_default() as graph:
        tf.compat.v1.get_variable("v", [1])
    with pytest.raises(gs.FormatError, match="not frozen"):
        gs.split(gs.load(graph), outputs="v")


FUNCTIONS: dict[str, Callable[..., object]] = {
    "plan": lambda **o: gs.plan("demo", **o),
    "split": lambda **o: gs.split("demo", **o),
    "Detector": lambda **o: gs.Detector("demo", **o),
    "view": lambda **o: gs.view("demo", **o),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_misspelt_option_names_the_function_and_the_nearest_one(function):
    with pytest.raises(
        gs.OptionError, match=rf"^{function}\(\) got an unexpected keyword argument 'otuputs'; did you mean 'outputs'\?$"
    ):
        FUNCTIONS[function](otuputs="x")
    with pytest.raises(TypeError):  # what Python itself raises
        FUNCTIONS[function](otuputs="x")


def test_a_misspelt_run_option_is_the_same_error():
    parts = gs.split("demo", shapes=False)
    with pytest.raises(
        gs.OptionError, match=r"^Pipeline\(\) got an unexpected keyword argument 'device'; did you mean 'devices'\?$"
    ):
        gs.Pipeline(parts, device={"main": "/cpu:0"})
    with pytest.raises(gs.OptionError, match=r"^bench\(\) got an unexpected keyword argument 'thread'; did you mean 'threads'\?$"):
        gs.bench(parts, thread=1)


@pytest.mark.parametrize(
    ("function", "option", "nearest"),
    [("split", "shape", "shapes"), ("split", "devcies", "devices"), ("plan", "trusted", "trust"), ("view", "prot", "port")],
)
def test_the_nearest_option_is_looked_for_among_all_that_a_function_takes(function, option, nearest):
    with pytest.raises(gs.OptionError, match=rf"^{function}\(\) got .* '{option}'; did you mean '{nearest}'\?$"):
        FUNCTIONS[function](**{option: 1})


def test_values_of_the_wrong_type_are_refused_with_the_option(relus):
    parts = gs.split(relus, "a")
    for asked, message in (
        (lambda: gs.split(relus, outputs=5), "5 is not the name of a tensor; names are strings"),
        (lambda: gs.split(relus, outputs=[["a"], 5]), "5 is not the name of a tensor"),
        (lambda: gs.split(relus, outputs=b"a"), "b'a' is not the name of a tensor"),
        (lambda: gs.split(relus, preset=5), "preset must be the name of a preset or the path of a .json file, not 5"),
        (lambda: gs.suggest(relus, limit=0), "limit must be at least 1, not 0"),
        (lambda: gs.verify(relus, parts, runs=0), "runs must be at least 1, not 0"),
        (lambda: gs.verify(relus, parts, rtol=-1), "rtol must be a number from 0, not -1"),
        (lambda: gs.verify(relus, parts, atol=float("nan")), "atol must be a number from 0, not nan"),
        (lambda: gs.Pipeline(parts, depth=0), "depth must be at least 1, not 0"),
        (lambda: gs.Pipeline(parts, depth="2"), "depth must be a whole number, not '2'"),
        (lambda: gs.Pipeline(parts, threads="two"), "threads must be a whole number, not 'two'"),
        (lambda: gs.Pipeline(parts, threads=0), "threads must be at least 1, not 0"),
        (
            lambda: gs.split(relus, crop_file={"outputs": ["a"]}),
            "crop_file must be the path of a JSON file, not {'outputs'",
        ),
        (lambda: gs.split(relus, affinity={"Relu": "host"}), "affinity must be the path of a JSON file, not {'Relu': 'host'}"),
        (lambda: gs.suggest(relus, affinity=5), "affinity must be the path of a JSON file, not 5"),
        (lambda: gs.save("dir", parts), "parts must be the result of split, not 'dir'"),
        (lambda: gs.save(parts, 5), "directory must be the path of a folder, not 5"),
        (lambda: gs.load_parts(5), "directory must be the path of the folder of a split, not 5"),
        (lambda: gs.split(relus, "a", devices="/cpu:0"), "devices must be a mapping such as {'main': '/cpu:0'}, not '/cpu:0'"),
        (lambda: gs.place(parts, "/cpu:0"), "devices must be a mapping"),
        (lambda: gs.Pipeline(parts, devices="/cpu:0"), "devices must be a mapping"),
        (lambda: gs.Pipeline(parts, delegates="lib.so"), "delegates must be a mapping"),
        (lambda: gs.bench(parts, devices="/cpu:0"), "devices must be a mapping"),
        (lambda: gs.Detector("demo", devices="/cpu:0"), "devices must be a mapping"),
        (lambda: gs.Detector("demo", threshold="0.5"), "threshold must be a number from 0 to 1, not '0.5'"),
        (lambda: gs.Detector("demo", threshold=float("nan")), "threshold must be a number from 0 to 1, not nan"),
        (lambda: gs.verify(relus, parts, rtol="x"), "rtol must be a number from 0, not 'x'"),
        (lambda: gs.verify(relus, parts, rtol=float("inf")), "rtol must be a number from 0, not inf"),
        (lambda: gs.verify(relus, parts, runs=True), "runs must be a whole number, not True"),
        (lambda: gs.view(relus, port="x"), "port must be a whole number, not 'x'"),
    ):
        with pytest.raises(gs.OptionError, match=re.escape(message)):
            asked()


def test_numbers_of_numpy_are_numbers(relus):
    assert gs.verify(relus, gs.split(relus, "a"), rtol=np.float32(1e-3), runs=np.int64(1))


@pytest.mark.parametrize("feeds", [{"x": np.float32([[1, 2, 3]])}, 5], ids=["one mapping", "a number"])
def test_a_stream_takes_an_iterable_of_feeds(relus, feeds):
    with gs.Pipeline(gs.split(relus, "a"), devices={"main": "/cpu:0"}) as pipe:
        with pytest.raises(
            gs.FeedError, match=r"^stream\(\) takes an iterable of feeds, one \{tensor: array\} for each frame, not "
        ):
            pipe.stream(feeds)
        assert pipe.run({"x": np.float32([[1, 2, 3]])})["y:0"].shape == (1, 3), "a refused stream does not close the pipeline"


def test_a_batch_of_no_frames_is_refused(relus):
    parts = gs.split(relus, "a", devices={"main": "/cpu:0"})
    empty = {"x": np.zeros((0, 3), np.float32)}
    with gs.Pipeline(parts) as pipe:
        for asked in (lambda: pipe.run(empty), lambda: list(pipe.stream([empty])), lambda: gs.verify(relus, parts, empty)):
            with pytest.raises(gs.FeedError, match=r"^'x:0' has a batch of 0: shape \[0, 3\]; pass at least one frame$"):
                asked()
    with pytest.raises(gs.FeedError, match=r"^'x:0' must have shape \[\?, 3\], not \[0, 4\]$"):
        gs.verify(relus, parts, {"x": np.zeros((0, 4), np.float32)})


@pytest.mark.parametrize(("input_", "output", "lacks"), [("x", "z", "output 'y:0'"), ("w", "y", "input 'x:0'")])
def test_another_model_is_not_compared_with_the_parts(relus, tmp_path, input_, output, lacks):
    other = built(placeholder(input_, shape=[None, 3]), node(output, "Relu", input_)).save(tmp_path / "other.pb")
    with pytest.raises(gs.FormatError, match=rf"other\.pb: the model has no {lacks}; pass the model that was split$"):
        gs.verify(other, gs.split(relus, "a"))


def test_an_array_is_not_feeds(relus):
    parts = gs.split(relus, "a", devices={"main": "/cpu:0"})
    x = np.float32([[1, 2, 3]])
    with gs.Pipeline(parts) as pipe:
        for asked in (lambda: pipe.run(x), lambda: list(pipe.stream([x])), lambda: gs.place(parts).run(x)):
            with pytest.raises(gs.FeedError, match=r"^feeds are \{tensor: array\}, such as \{'x:0': …\}, not ndarray$"):
                asked()
        assert pipe.run({"x": x})["y:0"].shape == (1, 3), "a refused feed does not close the pipeline"


def test_contradicting_cuts_are_one_error_everywhere(relus, tmp_path):
    planned = gs.plan(relus, outputs="a")
    both = {"outputs": "a", "preset": "ssd_2018"}
    for asked in (
        lambda: gs.plan(relus, **both),
        lambda: gs.split(relus, **both),
        lambda: gs.split(relus, planned, autocrop=True),
        lambda: gs.view(relus, planned, outputs="a"),
        lambda: gs.view(gs.split(relus, planned), outputs="a"),
    ):
        with pytest.raises(gs.CutError, match="both say where to cut"):
            asked()


def test_a_plan_of_another_model_is_refused(relus):
    with pytest.raises(gs.CutError, match="the plan was made for another model: this one has no node"):
        gs.split(relus, gs.plan("demo", shapes=False))


def test_a_section_that_does_not_exist_is_one_error_everywhere(relus, tmp_path):
    parts = gs.split(relus, outputs="a")
    folder = gs.save(parts, tmp_path / "out")
    for asked in (
        lambda: parts["mian"],
        lambda: parts.plan["mian"],
        lambda: gs.split(relus, outputs="a", devices={"mian": "/cpu:0"}),
        lambda: gs.place(parts, {"mian": "/cpu:0"}),
        lambda: gs.Pipeline(parts, devices={"mian": "/cpu:0"}),
        lambda: gs.Pipeline(parts, delegates={"mian": "lib.so"}),
        lambda: gs.export(folder, tmp_path / "x", to="saved_model", section="mian"),
    ):
        with pytest.raises(gs.SectionNotFoundError, match=r"^no section 'mian'; there are main, post$") as caught:
            asked()
        assert isinstance(caught.value, (KeyError, gs.PlacementError))
        assert (caught.value.section, caught.value.known) == ("mian", ("main", "post"))


def test_a_report_is_true_if_everything_is_equal(relus):
    report = gs.verify(relus, gs.split(relus, outputs="a"), {"x": np.float32([[1, 2, 3]])})
    assert report
    assert bool(report) is report.equal


def test_a_plan_is_data(relus):
    planned = gs.plan(relus, outputs="a")
    assert pickle.loads(pickle.dumps(planned)) == planned
    assert (planned.origin, planned.last, [c.tensors for c in planned.cuts]) == ("named", "post", [("a:0",)])


def test_a_policy_that_does_not_exist_fails_at_the_call(relus):
    with gs.Pipeline(gs.split(relus, outputs="a"), devices={"main": "/cpu:0"}) as pipe:
        with pytest.raises(gs.OptionError, match="policy is one of block, latest, not 'lates'"):
            pipe.stream([], policy="lates")
        assert list(pipe.stream([], policy="latest")) == []


def test_half_a_byte_counts_as_one():
    assert gs.TensorSpec("x", "int4", (3,)).nbytes == 2
    assert gs.TensorSpec("x", "int4", (4,)).nbytes == 2
    assert gs.TensorSpec("x", "float32", (None, 3)).frame().nbytes == 12


def test_arguments_are_not_modified(relus):
    outputs, devices = ["a", "b"], {"main": "/cpu:0"}
    parts = gs.split(relus, outputs, devices=devices)
    with gs.Pipeline(parts, devices=devices) as pipe:
        feed = {"x": np.float32([[1, 2, 3]])}
        pipe.run(feed)
        assert list(feed) == ["x"]
        with pytest.raises(AttributeError):
            pipe.depth = 7
    assert (outputs, devices) == (["a", "b"], {"main": "/cpu:0"})


def test_public_functions_and_classes_have_docstrings_that_tools_render():
    headings = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:")
    for name in gs.__all__:
        value = getattr(gs, name)
        if name.startswith("__"):
            continue
        text = inspect.getdoc(value) or ""
        assert text.strip(), name
        functions = [value] if inspect.isfunction(value) else []
        if inspect.isclass(value):
            functions = [m for n, m in vars(value).items() if inspect.isfunction(m) and not n.startswith("_")]
        for function in functions:
            doc = inspect.getdoc(function) or ""
            assert doc, f"{name}.{function.__name__}"
            takes = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
            if len(takes) > 1:
                assert any(h in doc for h in headings), f"{name}.{function.__name__} takes {takes} and does not explain them"


def test_no_public_signature_says_any_but_for_config():
    for name in gs.__all__:
        value = getattr(gs, name)
        if not callable(value):
            continue
        for parameter in inspect.signature(value.__init__ if inspect.isclass(value) else value).parameters.values():
            text = str(parameter.annotation)
            if parameter.name not in ("self", "config", "args", "kwargs"):
                assert text not in ("Any", "Any | None"), f"{name}({parameter.name}: {text})"


def test_a_graph_def_model_is_a_model_already(relus):
    model = gs.load(relus)
    assert gs.load(model) is model
    assert isinstance(model, GraphDefModel)


def test_errors_travel_between_processes(relus, tmp_path):
    report = gs.verify(relus, gs.split(relus, "a"), {"x": np.float32([[1, 2, 3]])})
    for error in (
        gs.FormatError("bad", path="x.pb"),
        gs.TrustError("outside", nodes=["n"]),
        gs.TensorNotFoundError("a", close=["b"]),
        gs.CutError("no", cut=["a"]),
        gs.OverwriteError("there", paths=["p"]),
        gs.SectionNotFoundError("mian", known=["main"]),
        gs.OptionError("what", option="o"),
        gs.FeedError(["a", "b"]),
        gs.MissingExtraError("cv2", extra="detect"),
        gs.SectionRunError("failed", section="main"),
        gs.FetchError("gone", address="http://localhost"),
        gs.EquivalenceError("differs", report=report),
    ):
        for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
            assert (type(other), str(other)) == (type(error), str(error))
            assert vars(other) == vars(error)


def test_a_split_never_replaces_the_model_it_is_of(relus, tmp_path):
    source = tmp_path / "m_main.pb"
    source.write_bytes(relus.read_bytes())
    link = tmp_path / "m.pb"
    link.symlink_to(source)
    with pytest.raises(gs.OverwriteError, match=r"m_main\.pb"):
        gs.save(gs.split(link, "a"), tmp_path, overwrite=True)
    assert source.read_bytes() == relus.read_bytes()


def test_what_is_not_a_plain_file_of_json_is_refused_without_waiting(relus, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for option in ("affinity", "crop_file"):
        with pytest.raises(gs.FormatError, match="not a plain file; a pipe or a device is never read"):
            gs.plan(relus, **{option: fifo})
    table = tmp_path / "table.json"
    table.write_text('{"\\ud800": "host", "a": 1}')
    with pytest.raises(gs.FormatError):
        gs.plan(relus, affinity=table)
