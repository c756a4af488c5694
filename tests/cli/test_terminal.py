"""What reaches the terminal: streams that are closed, full or narrow, names that would steer it, prints of a model, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphsplit.graph.text import escaped
from tests.graphs import graph, node, placeholder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a POSIX shell, signals")

ROOT = Path(__file__).parents[2]
COMMAND = f"{sys.executable} -m graphsplit"

HOSTILE = "a\x1b]0;owned\x07\x1b[31m\u202e[red]x[/red][/b]:smile:[link=file:///etc]y\x9b2J"
# What a terminal would obey, apart from the colours and the cursor of rich.
OBEYED = re.compile("\x07|\x1b\\]|\x1b\\[31m|\x9b|[\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose names would steer a terminal, in a file whose name is markup."""
    folder = tmp_path_factory.mktemp("hostile")
    names = [placeholder("x"), node(HOSTILE, "Relu", "x"), node(f"{HOSTILE}/scope/→é", "Tanh", HOSTILE), node("y", "Relu", HOSTILE)]
    (folder / "m[red]o[").mkdir()
    path = folder / "m[red]o[" / "b].pb"
    path.write_bytes(graph(*names).SerializeToString())
    return path


def shell(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of a shell, in which $G is the command."""
    return subprocess.run(
        ["bash", "-c", text],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "G": COMMAND, **environment},
        check=False,
        errors="surrogateescape",
    )


def python(*words: object) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def on_terminal(*words: object, columns: int = 80, **environment: str) -> tuple[int, str]:
    """Exit status and everything that a command sends to a terminal."""
    import fcntl
    import pty
    import struct
    import termios

    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "graphsplit", *map(str, words)],
        stdin=side,
        stdout=side,
        stderr=side,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    )
    os.close(side)
    sent = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        sent += chunk
    os.close(main)
    return process.wait(120), sent.decode(errors="surrogateescape")


# streams


@pytest.mark.parametrize(
    ("line", "status", "out", "err"),
    [
        ("$G presets >&-", 0, "", ""),
        ("$G presets 2>&- | grep -c ssd_2018", 0, "1\n", ""),
        ("$G presets <&- | grep -c ssd_2018", 0, "1\n", ""),
        ("$G presets <&- >&- 2>&-", 0, "", ""),
        ("$G --help >&-", 0, "", ""),
        ("$G show nothing.pb 2>&-", 1, "", ""),
        ("$G show nothing.pb >&- 2>&-", 1, "", ""),
        ("$G nonsense 2>&-", 2, "", ""),
        ("$G show --nonsense x 2>&- >&-", 2, "", ""),
        ("$G presets | true; exit ${PIPESTATUS[0]}", 141, "", ""),
        ("$G show nothing.pb 2> >(true); exit $?", 1, "", ""),
        ("$G presets > /dev/full", 1, "", "graphsplit: input/output: No space left on device\n"),
        ("$G presets --json > /dev/full", 1, "", "graphsplit: stdout: No space left on device\n"),
        ("$G show nothing.pb 2> /dev/full", 1, "", ""),
    ],
)
def test_closed_and_full_streams_are_no_traceback_and_change_no_status(line, status, out, err):
    if "/dev/full" in line and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    done = shell(line)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_files_do_not_get_the_number_of_a_stream_that_is_closed(hostile, tmp_path):
    """A file that got number 1 or 2 would be written into by everything that prints."""
    line = f"$G split '{hostile}' --outputs y -o {tmp_path}/out --no-verify --no-shapes <&- >&- 2>&-"
    assert shell(line).returncode == 0
    again = f"$G split '{hostile}' --outputs y -o {tmp_path}/again --no-verify --no-shapes"
    assert shell(again).returncode == 0
    for path in (tmp_path / "out").iterdir():
        if path.suffix == ".pb":
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_an_encoding_that_lacks_characters_gets_plain_ones(hostile, environment):
    table = shell(f"$G show '{hostile}' --node y", **environment)
    assert (table.returncode, table.stderr) == (0, "")
    assert "from node" in table.stdout or "input" in table.stdout
    answer = shell(f"$G show '{hostile}' --json", **environment)
    assert answer.stderr == ""
    assert json.loads(answer.stdout)["outputs"][0]["tensor"] == f"{HOSTILE}/scope/→é:0"
    error = shell(f"$G show '{hostile}' --node zoë→", **environment)
    assert error.returncode == 1
    assert "Traceback" not in error.stderr
    assert "->" in error.stderr


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"TERM": "xterm"}, {"COLUMNS": "20"}])
@pytest.mark.parametrize("columns", [20, 200])
def test_terminals_of_all_kinds(hostile, environment, columns):
    status, sent = on_terminal("show", hostile, columns=columns, **environment)
    assert status == 0
    assert "graphdef, 4 nodes" in sent
    assert "Traceback" not in sent
    assert not OBEYED.search(sent)
    if environment.get("TERM") == "dumb":
        assert "\x1b" not in sent


# names


@pytest.mark.parametrize(
    "words",
    [
        ["show"],
        ["show", "--node", HOSTILE],
        ["show", "--node", HOSTILE + "?"],
        ["plan", "--outputs", "y"],
        ["plan", "--outputs", "nothing"],
        ["suggest"],
        ["split", "--outputs", "y", "-o", "@"],
        ["verify"],
        ["presets", "--match"],
    ],
)
def test_names_are_shown_and_neither_obeyed_nor_markup(hostile, tmp_path, words):
    words = [f"{tmp_path}/o[/z]{HOSTILE.replace('/', '')}" if w == "@" else w for w in words]
    command = [words[0], *words[1:], hostile] if words[0] == "presets" else [words[0], hostile, *words[1:]]
    status, sent = on_terminal(*command, columns=1000)
    assert status in (0, 1)
    assert not OBEYED.search(sent), sent
    assert "Traceback" not in sent
    assert "MarkupError" not in sent
    if words[0] in ("plan", "split") and status == 0:
        assert "[/b]" in sent


def test_names_from_the_shell_are_shown_in_usage_errors(tmp_path):
    done = shell("$G show x $'--\\e[31mtrash\\a'; $G $'\\e]0;x\\a'; $G bench x --frames $'\\e[31m'")
    assert not OBEYED.search(done.stderr)
    assert "\\x1b" in done.stderr


def test_a_warning_is_a_line_without_what_a_terminal_would_obey(tmp_path):
    code = "import warnings, graphsplit.cli.terminal as t; t.prepare(); warnings.warn('a\\x1b[31m\\nb', stacklevel=1)"
    done = python("-c", code)
    assert done.stderr == "graphsplit: a\\x1b[31m b\n"


def test_a_traceback_of_verbose_is_escaped(hostile):
    done = shell(f"$G -v show '{hostile}' --node $'\\e[31m'")
    assert done.returncode == 1
    assert "TensorNotFoundError" in done.stderr
    assert not OBEYED.search(done.stderr)


def test_json_holds_names_as_they_are(hostile):
    done = python("-m", "graphsplit", "show", hostile, "--json", "--node", HOSTILE)
    assert json.loads(done.stdout)["name"] == HOSTILE
    assert not OBEYED.search(done.stdout)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain → é 漢", "plain → é 漢"),
        ("\x1b[0m", "\\x1b[0m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\x9b\x85\x7f", "\\x9b\\x85\\x7f"),
        ("\u200b\ufeff\U000e0041", "\\u200b\\ufeff\\U000e0041"),
        ("\udcff", "\\udcff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
    ],
)
def test_what_is_escaped(text, shown):
    assert escaped(text) == shown
    assert escaped(text, keep=text) == text


# a model's prints


@pytest.fixture(scope="module")
def printing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that prints to stdout when it runs."""
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(tf.float32, [1, 2], name="x")
        with tf.control_dependencies([tf.raw_ops.PrintV2(input=tf.constant("PRINTED BY THE MODEL"), output_stream="stdout")]):
            y = tf.nn.relu(x, name="y")
        tf.nn.tanh(y, name="z")
    path = tmp_path_factory.mktemp("printing") / "printing.pb"
    path.write_bytes(made.as_graph_def().SerializeToString())
    return path


@pytest.mark.parametrize(("flags", "err"), [("", ""), ("--verbose", "native\n")])
def test_what_is_written_to_the_number_of_stdout_is_not_on_stdout(flags, err):
    code = """
import os
import graphsplit.cli as c, graphsplit.cli.show as show
from graphsplit.cli.printing import say
def run(args):
    say("ours before")
    os.write(1, b"native\\n")
    os.system("echo child") if not args.verbose else None
    say("ours after")
    return 0
show.run = run
c.main()
"""
    done = python("-c", code, "show", "x", *flags.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, "ours before\nours after\n", err)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "export {} --to saved_model -o {out} --trust --json",
        "bench {} --outputs y --frames 2 --trust --json",
        "split {} --outputs y -o {out} --trust --json",
    ],
)
def test_what_a_model_prints_is_not_on_stdout(printing, tmp_path, words):
    done = shell("$G " + words.format(printing, out=tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    assert "PRINTED" not in done.stdout


# signals


def interrupted(words: list[str], number: int, after: float, folder: Path, *, group: bool = True) -> tuple[int, str]:
    """Status and stderr of a command that gets a signal after some seconds, as from a terminal: with all its children."""
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import graphsplit.cli as c; c.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    time.sleep(after)
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    "words",
    [
        ["split", "{model}", "-o", "out"],
        ["bench", "{model}", "--frames", "200"],
        ["export", "{model}", "--to", "saved_model", "-o", "out"],
        ["suggest", "{model}"],
        ["demo", "-o", "out"],
    ],
    ids=lambda words: words[0],
)
def test_a_signal_at_any_moment_is_a_quiet_end_without_litter(tmp_path, words, number):
    from graphsplit.formats import load

    model, number = str(load("demo").path), getattr(signal, number)
    words = [w.format(model=model) for w in words]
    for step in range(0, 20, 1 if os.environ.get("GRAPHSPLIT_ATTACK") else 10):
        folder = tmp_path / str(step)
        folder.mkdir()
        after = 0.15 + 0.4 * step
        status, err = interrupted(words, number, after, folder)
        steps = [line for line in err.splitlines() if not (words[0] == "demo" and line.endswith(" …"))]
        assert steps == [], (after, err)
        assert status in (128 + number, 0), after
        litter = [p.name for p in folder.rglob("*") if p.name.startswith(".graphsplit") or p.name.endswith(".tmp")]
        assert litter == [], after


@pytest.mark.parametrize(("number", "after"), [("SIGINT", 0.3), ("SIGTERM", 0.7), ("SIGHUP", 1.2), ("SIGINT", 2.0)])
def test_a_signal_ends_a_split_quietly(tmp_path, number, after):
    number = getattr(signal, number)
    status, err = interrupted(["split", "demo", "-o", "out"], number, after, tmp_path)
    assert (status in (128 + number, 0), err) == (True, ""), status
    if status:
        assert list(tmp_path.iterdir()) == []


def test_a_second_press_changes_nothing(tmp_path):
    code = """
import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)
import graphsplit.cli as c
import graphsplit.cli.show as show
def run(args):
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGINT)
        print("tidied")
show.run = run
c.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "x"], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "tidied\n", "")


def test_an_interrupt_in_a_finalizer_is_not_lost(tmp_path):
    code = """
import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)
import graphsplit.cli as c
import graphsplit.cli.show as show
class Late:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def run(args):
    late = Late()
    del late
    time.sleep(30)
show.run = run
c.main()
"""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "x"], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert time.monotonic() - start < 25


def test_native_code_that_does_not_return_does_not_hold_up_sigterm():
    code = """
import signal, time
import graphsplit.cli as c, graphsplit.cli.signals as s, graphsplit.cli.show as show
s._LONGEST = 0.3
def run(args):
    import os, threading
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        while True:
            pass
show.run = run
c.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "x"], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


def test_a_signal_that_is_ignored_stays_ignored():
    code = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
import graphsplit.cli as c, graphsplit.cli.show as show
def run(args):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGHUP)
    return 0
show.run = run
c.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "x"], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
