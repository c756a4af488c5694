"""What is published: the metadata, a wheel that runs in a clean environment, a source distribution whose tests run.

checkout ─copy─▶ sdist ─▶ wheel ─▶ clean environment: graphsplit --version, graphsplit demo
                   └─▶ unpacked: its own tests
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest

from graphsplit.version import VERSION

ROOT = Path(__file__).parent.parent
REPOSITORY = "https://github.com/graphsplit/graphsplit"
FOLDERS = ("benchmarks", "docs", "graphsplit", "models", "notebooks", "scripts", "tests", ".github")
NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache", ".hypothesis", "*.egg-info", ".DS_Store")
PROVIDED_BY = {  # modules whose distribution has another name, or comes with another one
    "cv2": "opencv-python-headless",
    "google": "protobuf",
    "keras": "tensorflow",
    "ml_dtypes": "tensorflow",
    "pyarrow": "ray",
}

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def lines(section: str, key: str) -> list[str]:
    return SETUP[section][key].split("\n")[1:]


def requirements(text: str) -> set[str]:
    """Names of the distributions that a list of requirements names, without versions."""
    return {re.split(r"[\[ <>=!~;]", line, maxsplit=1)[0] for line in text.split() if re.match(r"[a-z]", line)}


# metadata


def test_supported_versions_are_the_same_in_classifiers_workflow_and_readme():
    stated = [c.split()[-1] for c in lines("metadata", "classifiers") if re.search(r":: 3\.\d+$", c)]
    assert SETUP["options"]["python_requires"] == f">={stated[0]}"
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", workflow)[1]) == stated
    assert re.search(rf"Python {stated[0]}\D+{stated[-1]}", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_extra_all_holds_every_extra_but_the_tools_of_development():
    extras = set(SETUP["options.extras_require"])
    (everything,) = lines("options.extras_require", "all")
    assert set(re.fullmatch(r"graphsplit\[(.*)\]", everything)[1].split(",")) == extras - {"all", "test"}


def test_every_extra_that_a_message_names_exists():
    named = set()
    for path in sorted((ROOT / "graphsplit").rglob("*.py")):
        named |= set(re.findall(r'\bextra="(\w+)"|graphsplit\[(\w+)\]', path.read_text(encoding="utf-8")))
    assert {extra for pair in named for extra in pair if extra} <= set(SETUP["options.extras_require"])


def for_type_checkers(tree: ast.Module) -> set[ast.AST]:
    """What is below ``if TYPE_CHECKING``."""
    blocks = (n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def test_every_package_that_is_imported_is_required_and_an_optional_one_only_where_it_is_used():
    required = requirements(SETUP["options"]["install_requires"])
    optional = requirements("\n".join(SETUP["options.extras_require"].values()))
    for path in sorted((ROOT / "graphsplit").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in set(ast.walk(tree)) - for_type_checkers(tree):
            known = required if node in tree.body else required | optional
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in (m.split(".")[0] for m in modules):
                if module != "graphsplit" and module not in sys.stdlib_module_names:
                    assert PROVIDED_BY.get(module, module.replace("_", "-")) in known, f"{path}:{node.lineno}: {module}"


def test_the_readme_renders_on_a_package_index_where_its_pictures_show_and_its_links_lead_somewhere():
    """A package index has no files beside the text, so that every address is a whole one."""
    from readme_renderer import markdown

    html = markdown.render((ROOT / "README.md").read_text(encoding="utf-8"))
    assert html is not None
    assert f'src="{REPOSITORY}/raw/main/' in html
    for kind, address in re.findall(r'<(?:a|img)\b[^>]* (href|src)="([^"]*)"', html):
        assert address.startswith("https://" if kind == "src" else ("https://", "#")), address
        ours = re.fullmatch(rf"{REPOSITORY}/(?:{'raw' if kind == 'src' else 'raw|blob|tree'})/main/([^#]*)(?:#.*)?", address)
        if ours:
            assert (ROOT / ours[1]).exists(), address
        elif kind == "src":
            assert not address.startswith(REPOSITORY), f"{address} is a page with the picture, not the picture"


# wheel and source distribution


def clean(*command: str | Path, cwd: Path) -> str:
    """What a command prints that does not see this checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that is built from it."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=NOT_SOURCE)
    clean(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=out)
    return out


@pytest.fixture(scope="module")
def sdist(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built / f"graphsplit-{VERSION}.tar.gz") as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / f"graphsplit-{VERSION}"


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, which finds all other packages where this one has them."""
    home = tmp_path_factory.mktemp("clean")
    clean(sys.executable, "-m", "venv", home, cwd=home)
    executable = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(clean(executable, "-c", code, cwd=home).strip())
    # A .pth file of a folder that is listed in a .pth file is not read, so that an editable install is not seen.
    others = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (own / "others.pth").write_text("\n".join(others), encoding="utf-8")
    wheel = built / f"graphsplit-{VERSION}-py3-none-any.whl"
    clean(executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=home)
    assert clean(executable, "-c", "import graphsplit; print(graphsplit.__file__)", cwd=home).startswith(str(own))
    return executable


def files(*folders: str) -> set[str]:
    """Paths of the sources below some folders of the checkout."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not any(NOT_SOURCE("", [part]) for part in path.relative_to(ROOT).parts)
    }


@pytest.mark.slow
def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(built):
    with zipfile.ZipFile(built / f"graphsplit-{VERSION}-py3-none-any.whl") as wheel:
        names = {n for n in wheel.namelist() if not n.startswith(f"graphsplit-{VERSION}.dist-info/")}
        message: Message = BytesParser().parsebytes(wheel.read(f"graphsplit-{VERSION}.dist-info/METADATA"))
        entry_points = wheel.read(f"graphsplit-{VERSION}.dist-info/entry_points.txt").decode()
    assert names == files("graphsplit")
    assert {"graphsplit/py.typed", "graphsplit/demo/data/shapes_ssd.pb", "graphsplit/fetching/zoo.json"} <= names
    assert message["License-Expression"] == "Apache-2.0"
    assert message["License-File"] == "LICENSE"
    assert message["Description-Content-Type"] == "text/markdown"
    urls = dict(line.split(", ") for line in message.get_all("Project-URL", []))
    assert sorted(urls) == ["Changelog", "Documentation", "Issues", "Source"]
    assert urls["Source"] == REPOSITORY
    assert "graphsplit = graphsplit.cli:main" in entry_points


@pytest.mark.slow
def test_the_source_distribution_holds_what_its_tests_read(sdist):
    there = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    assert files(*FOLDERS) <= there
    assert {path.name for path in ROOT.glob("*.md")} <= there


@pytest.mark.slow
def test_the_wheel_runs_in_a_clean_environment(python, tmp_path):
    command = python.with_name("graphsplit")
    assert clean(command, "--version", cwd=tmp_path).strip() == f"graphsplit {VERSION}"
    clean(command, "demo", "-o", "out", cwd=tmp_path)
    assert {"shapes_ssd_main.pb", "shapes_ssd_post.pb", "split.json"} == {p.name for p in (tmp_path / "out" / "split").iterdir()}


@pytest.mark.slow
def test_the_tests_of_the_source_distribution_run(python, sdist):
    pytest_ = (python, "-m", "pytest", "-p", "no:cacheprovider")
    clean(*pytest_, "--collect-only", "-m", "slow or not slow", cwd=sdist)
    chosen = ("tests/test_house.py", "tests/test_readme.py", "tests/formats/test_wire.py", "tests/test_traps_targets.py")
    assert " passed" in clean(*pytest_, *chosen, "-k", "not style and not tensorflow_is_imported", cwd=sdist)
