"""graphsplit batch --engine ray: the same rows as the local engine, even if actors die."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from graphsplit.batching import run_batch
from graphsplit.batching.inventory import inventory
from graphsplit.errors import MissingExtraError, PlacementError
from tests.batching.conftest import frames, rejects, rows

pytest.importorskip("cv2")
pytest.importorskip("supervision")


def test_without_ray_the_extra_is_named(spotter, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    monkeypatch.setitem(__import__("sys").modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r"graphsplit\[ray\]"):
        run_batch(spotter, [pictures], tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two CPUs in this process' children, gone afterwards."""
    ray = pytest.importorskip("ray", reason="Ray Data is not installed: pip install 'graphsplit[ray]'")
    pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'graphsplit[ray]'")
    folder = tempfile.mkdtemp(prefix="gs-ray-")  # not pytest's: the paths of sockets are short
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=2,
        num_gpus=0,
        object_store_memory=200 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=folder,
    )
    yield ray
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


# Actors are found by name on the whole machine, so these tests run one after the other.
slow = [pytest.mark.xdist_group("ray"), pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


class TestOnTwoCores:
    pytestmark = slow

    def test_both_engines_write_the_same_bytes(self, cluster, spotter, archive, tmp_path):
        for engine, options in (("local", {}), ("ray", {"batch_size": 5})):
            summary = run_batch(
                spotter, [archive], tmp_path / engine, engine=engine, ray=options, outputs=["heat"], sources_per_part=4
            )
            assert len(summary.rejects) == 3
        for file in ("part-00000.jsonl", "part-00001.jsonl", "rejects.jsonl"):
            assert (tmp_path / "ray" / file).read_bytes() == (tmp_path / "local" / file).read_bytes()
        assert len(rows(tmp_path / "ray")) > 26
        assert len(rejects(tmp_path / "ray")) == 3

    def test_what_ray_began_the_local_engine_finishes(self, cluster, spotter, pictures, tmp_path):
        out = tmp_path / "out"

        def stop(event, items):
            if event.source == 7:
                raise KeyboardInterrupt

        options = {"outputs": ["heat"], "sources_per_part": 2}
        with pytest.raises(KeyboardInterrupt):
            run_batch(spotter, [pictures], out, engine="ray", progress=stop, **options)
        done = run_batch(spotter, [pictures], out, engine="local", resume=True, **options)
        assert done.resumed == 6
        assert frames(rows(out)) == [(f"{i:02}.png", 0) for i in range(12)]

    @pytest.mark.parametrize("stage", ["Reader", "Section", "Answerer"])
    def test_an_actor_killed_in_the_middle_loses_and_repeats_nothing(self, cluster, spotter, pictures, tmp_path, stage):
        for i in range(12, 120):
            shutil.copy(pictures / f"{i % 12:02}.png", pictures / f"{i:03}.png")
        killed, seen = [], set()

        def kill(event, items):
            if event.source < 3:
                return
            running = actors(stage)
            if not killed:
                assert running, "the actors are found by the names Ray gives their processes"
                os.kill(running[0], signal.SIGKILL)
                killed.append(running[0])
            seen.update(running)

        summary = run_batch(
            spotter, [pictures], tmp_path / "out", engine="ray", ray={"batch_size": 1}, progress=kill, outputs=["heat"]
        )
        assert killed
        assert not summary.rejects
        names = [i.name.rpartition("/")[2] for i in inventory([pictures])]
        assert frames(rows(tmp_path / "out")) == [(name, 0) for name in names]
        assert seen - set(killed), "another actor took its place: it was killed before its work was done"

    def test_what_can_never_be_scheduled_is_refused_and_nothing_written(self, cluster, spotter, pictures, tmp_path):
        for ask in ({"cpus": {"main": 3}}, {"cpus": {"read": 1, "main": 1, "answer": 1}}, {"gpus": {"main": 1}}):
            with pytest.raises(PlacementError, match=r"can never be scheduled|none is left for"):
                run_batch(spotter, [pictures], tmp_path / "out", engine="ray", ray=ask, outputs=["heat"])
        assert not (tmp_path / "out").exists()


def actors(stage):
    """Ids of the processes below this one that are actors of a stage."""
    parents, found = {}, []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if f"MapBatches({stage})" in (folder / "cmdline").read_text():
                    found.append(int(folder.name))
            except OSError:
                continue

    def ours(process):
        while process not in (0, os.getpid()):
            process = parents.get(process, 0)
        return process == os.getpid()

    return [p for p in found if ours(p)]
