"""The house itself: style, types, layers, exported names, and what an import costs."""

from __future__ import annotations

import ast
import configparser
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphsplit

ROOT = Path(__file__).parent.parent

EXPORTED = [
    "Answer", "AsyncRunner", "CutError", "Detector", "EquivalenceError", "Exported", "FeedError", "FetchError", "FormatError",
    "GraphIndex", "GraphSplitError", "MissingExtraError", "MultiStreamRunner", "Node", "OptionError", "OverwriteError", "Part",
    "Parts", "Picture", "Pipeline", "Placed", "PlacementError", "Plan", "Preset", "Report", "Section", "SectionNotFoundError",
    "SectionRunError", "Target", "TensorNotFoundError", "TensorSpec", "TrustError", "Viewer", "__version__", "bench", "check",
    "draw", "export", "fetch", "load", "load_parts", "place", "plan", "rewrite", "save", "split", "suggest", "verify", "view",
]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports", "--no-cache"],
    ],
    ids=" ".join,
)
def test_style_types_and_layers_hold(command):
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def layers() -> dict[str, int]:
    """Folder (or module) of the package → how high it is in the layers contract."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["importlinter:contract:layers"]["layers"].strip().splitlines()
    return {name.strip().removeprefix("graphsplit."): -row for row, line in enumerate(lines) for name in line.split("|")}


def dynamic_imports() -> Iterator[tuple[str, str]]:
    """(module, what it imports by name, or starts as a program), for every place in the package that does."""
    for path in sorted((ROOT / "graphsplit").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in ("import_module", "__import__"):
                    yield module, ast.unparse(node.args[0])
            elif isinstance(node, ast.List) and any(getattr(e, "value", "") == "-m" for e in node.elts):
                flag = next(i for i, e in enumerate(node.elts) if getattr(e, "value", "") == "-m")
                yield module, ast.unparse(node.elts[flag + 1])


def test_no_import_by_name_points_up():
    height = layers()
    seen = set()
    for module, what in dynamic_imports():
        folder = module.split(".")[1]
        target = re.match(r"f?['\"]graphsplit\.(\w+)", what)
        seen.add(module)
        if module == "graphsplit.__init__":
            continue  # the entry points, above everything
        if target is None:  # an optional package from outside, or the runtime that a child process is to import
            assert module in ("graphsplit.detection.extras", "graphsplit.isolation.child"), (module, what)
        else:
            assert height[target[1]] <= height[folder], f"{module} imports {what}, which is above it"
    assert {"graphsplit.__init__", "graphsplit.cli.arguments", "graphsplit.detection.extras"} <= seen


def test_the_package_root_holds_entry_points_and_errors_only():
    assert {p.name for p in (ROOT / "graphsplit").glob("*.py")} == {"__init__.py", "__main__.py", "errors.py", "version.py"}


def test_exported_names_are_these_and_all_are_there():
    assert sorted(graphsplit.__all__) == EXPORTED
    for name in EXPORTED:
        assert getattr(graphsplit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = graphsplit.nothing


def test_every_module_says_what_it_exports_and_leaks_nothing():
    for info in pkgutil.walk_packages(graphsplit.__path__, "graphsplit."):
        if info.name == "graphsplit.__main__":
            continue
        module = importlib.import_module(info.name)
        if not info.ispkg or module.__dict__.get("__all__"):
            names = getattr(module, "__all__", None)
            assert names is not None or info.name == "graphsplit.version", f"{info.name} has no __all__"
            for name in names or ():
                assert hasattr(module, name), f"{info.name} exports {name}, which is not there"


def test_every_error_derives_from_one():
    from graphsplit import errors

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.GraphSplitError)


@pytest.mark.parametrize(
    "code",
    [
        "import graphsplit",
        "from graphsplit.cli import run; run(['show', {model!r}])",
        "from graphsplit.cli import run; run(['split', {model!r}, '--at', 'b', '-o', {out!r}, '--no-verify', '--no-shapes'])",
        "import graphsplit as gs; gs.plan(gs.load({model!r}), outputs=['b'])",
    ],
)
def test_tensorflow_is_imported_only_where_something_is_inferred_or_run(code, tmp_path):
    model = tmp_path / "m.pbtxt"
    relu = 'node { name: "%s" op: "Relu" input: "%s" attr { key: "T" value { type: DT_FLOAT } } }\n'
    start = 'node { name: "a" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }\n'
    model.write_text(start + relu % ("b", "a") + relu % ("c", "b"))
    code = code.format(model=str(model), out=str(tmp_path / "out"))
    code += "\nimport sys; print('tensorflow' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"


def test_help_imports_no_framework():
    code = "import sys\nfrom graphsplit.cli import run\ntry:\n run(['--help'])\nexcept SystemExit: pass\n"
    code += "heavy = ('tensorflow', 'numpy', 'rich', 'networkx', 'cv2', 'supervision', 'PIL')\n"
    code += "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_importing_changes_nothing_in_tensorflow():
    code = """
import tensorflow as tf
before = tf.executing_eagerly(), tf.compat.v1.get_default_graph(), tf.config.get_soft_device_placement()
import graphsplit as gs
for name in gs.__all__: getattr(gs, name)
assert before == (tf.executing_eagerly(), tf.compat.v1.get_default_graph(), tf.config.get_soft_device_placement())
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
