"""Native code writes to stderr, where the command line promises one line of its own: held back, and shown if it matters."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import IO

__all__ = ["quiet_tensorflow"]


@contextmanager
def quiet_tensorflow(verbose: bool) -> Iterator[None]:
    """Hold back what TensorFlow's C++ side writes to stderr before its logging is set up, if it is imported meanwhile.

    The lines are shown if the import fails. Nothing is imported here.

    Args:
        verbose: Hold nothing back.
    """
    if verbose or "tensorflow" in sys.modules:
        yield
        return
    finder = _QuietFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.meta_path.remove(finder)


class _QuietFinder(MetaPathFinder):
    """Finds TensorFlow, and holds stderr back while its module runs."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        loader = None if spec is None else spec.loader
        if loader is not None:
            plain = loader.exec_module

            def quiet(module: ModuleType) -> None:
                with held_back_stderr():
                    plain(module)

            loader.exec_module = quiet  # type: ignore[method-assign]
        return spec


def _unnamed_file() -> IO[bytes]:
    """A file that needs no folder, where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


@contextmanager
def held_back_stderr() -> Iterator[None]:
    sys.stderr.flush()
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError):  # not a real file, as in a notebook
        yield
        return
    with _unnamed_file() as kept:
        before = os.dup(number)
        os.dup2(kept.fileno(), number)
        try:
            yield
        except Exception:
            sys.stderr.flush()
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, number)
            os.close(before)
