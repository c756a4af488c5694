"""One side of a measurement: a process of its own, and what is said to it.

    {"load": FOLDER, "side": "whole" | "sections", "options": {…}}         →  {"devices": {…}, "transfer": {…}}
    {"run": "whole" | "sequential" | "pipelined" | SECTION, "frames": N}   →  {"seconds": …, "latencies": […], "timeline": […]}

One JSON object a line; `graphsplit.benchmark.process` is the other end.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict, cast

from graphsplit.errors import GraphSplitError
from graphsplit.execution.options import RunOptions
from graphsplit.formats import Model
from graphsplit.inference.cluster import read_cluster
from graphsplit.inference.feeds import Feeds
from graphsplit.parts.folder import save
from graphsplit.parts.parts import Parts

__all__ = ["FEEDS", "WHOLE", "Loaded", "Run", "Side", "decoded", "encoded", "write_sides"]

#: Files in FOLDER beside those of the split: the whole, and the feeds as a pickle (strings have no other safe form).
WHOLE, FEEDS = "whole", "feeds.pickle"


class Loaded(TypedDict):
    """What a side answers when it has loaded.

    Attributes:
        devices: Section → where it really runs.
        transfer: Section → {"device_ms", "copy_ms"}, or None, on accelerators.
    """

    devices: dict[str, str]
    transfer: dict[str, dict[str, float] | None]


class Run(TypedDict):
    """What a side answers when it has run some frames. Times are in seconds.

    Attributes:
        seconds: From the first to the last frame.
        latencies: Of each frame.
        timeline: Frame → (start, end) in each section; of a pipeline.
    """

    seconds: float
    latencies: list[float]
    timeline: list[list[tuple[float, float]]]


def write_sides(folder: Path, model: Model, parts: Parts, feeds: Feeds) -> None:
    """Write what both sides load."""
    save(parts, folder)
    model.save(folder / WHOLE)
    (folder / FEEDS).write_bytes(pickle.dumps(feeds))


def encoded(options: RunOptions) -> dict[str, object]:
    """Run options as JSON."""
    plain: dict[str, object] = dict(options)
    if (cluster := options.get("cluster")) is not None:
        plain["cluster"] = {job: list(tasks) for job, tasks in read_cluster(cluster).jobs.items()}
    if (config := options.get("config")) is not None:
        plain["config"] = base64.b64encode(config.SerializeToString()).decode()
    plain["devices"] = dict(options.get("devices") or {})
    plain["delegates"] = {name: os.path.abspath(path) for name, path in (options.get("delegates") or {}).items()}
    return plain


def decoded(options: Mapping[str, Any]) -> RunOptions:
    """Run options from JSON."""
    plain = dict(options)
    if plain.get("config") is not None:
        from tensorflow.core.protobuf.config_pb2 import ConfigProto

        plain["config"] = ConfigProto.FromString(base64.b64decode(plain["config"]))
    return cast(RunOptions, plain)


class Side:
    """A process that measures one side.

    Args:
        name: "whole" or "sections".
        folder: From `write_sides`.
        options: How to run the sections.

    Attributes:
        loaded: What it answered when it had loaded.

    Raises:
        GraphSplitError: The process failed.
    """

    def __init__(self, name: str, folder: Path, options: RunOptions) -> None:
        self.name = name
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__, with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "graphsplit.benchmark.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        try:
            self.loaded = cast(Loaded, self._ask({"load": str(folder), "side": name, "options": encoded(options)}))
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def run(self, mode: str, frames: int) -> Run:
        """Run some frames in a mode.

        Raises:
            GraphSplitError: The process failed.
        """
        return cast(Run, self._ask({"run": mode, "frames": frames}))

    def _ask(self, request: Mapping[str, object]) -> dict[str, object]:
        """One request and its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        line = ""
        if stdin is not None and stdout is not None:
            try:
                stdin.write(json.dumps(request) + "\n")
                stdin.flush()
                line = stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise GraphSplitError(f"measuring {self.name} failed: {last[0] if last else 'its process ended'}")
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise GraphSplitError(f"measuring {self.name} failed: {answer['error']}")
        return answer

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10 if kind is None else 1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
