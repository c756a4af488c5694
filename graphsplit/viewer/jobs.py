"""Long work in a thread, one job at a time; the page polls a job by its number until it is done."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from graphsplit.errors import GraphSplitError

__all__ = ["Jobs"]

_KEPT = 64
_WAITING = 8


class Jobs:
    """Jobs by number. A job returns a JSON object; an error becomes {"error": …}."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="graphsplit-view")
        self._jobs: dict[str, Future[dict[str, object]]] = {}
        self._lock = Lock()

    def start(self, work: Callable[[], dict[str, object]]) -> str:
        """Start a job and return its number. Raises GraphSplitError if too many are waiting."""
        with self._lock:
            if sum(not f.done() for f in self._jobs.values()) >= _WAITING:
                raise GraphSplitError("too many jobs are waiting; let some of them finish first")
            number = secrets.token_hex(8)
            self._jobs[number] = self._pool.submit(_guarded, work)
            for old in [n for n, f in self._jobs.items() if f.done()][:-_KEPT]:
                del self._jobs[old]
            return number

    def state(self, number: str) -> dict[str, object] | None:
        """{"done": false}, or {"done": true, …answer}; None for an unknown number."""
        with self._lock:
            job = self._jobs.get(number)
        if job is None:
            return None
        return {"done": True, **job.result()} if job.done() else {"done": False}

    def close(self) -> None:
        """Let the running job finish, so that no file is left half written; discard those that wait."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _guarded(work: Callable[[], dict[str, object]]) -> dict[str, object]:
    try:
        return work()
    except (GraphSplitError, OSError) as error:
        return {"error": " ".join(str(error).split())}
    except Exception as error:  # shown in the page; the server keeps running
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
