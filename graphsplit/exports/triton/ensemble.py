"""A repository, read back and run as Triton runs it: by what its files state, not by what was intended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphsplit.errors import FormatError
from graphsplit.exports.saved_model import SavedModelSession
from graphsplit.exports.triton.configs import CONFIG, ENSEMBLE, SAVED_MODEL, TENSORFLOW, fits, read_config, same_dims
from graphsplit.runtimes.arrays import Array, dtype_name

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelEnsembling, ModelInput, ModelOutput

__all__ = ["Ensemble"]


class Ensemble:
    """The ensemble of a repository; tensors are named as clients name them.

    Args:
        path: The repository.
        timeout: Seconds that one run of a section may take.

    Raises:
        FormatError: Triton would refuse the repository: a map to a tensor that does not exist, two ends of a border that differ,
            a configuration that its SavedModel contradicts.
    """

    def __init__(self, path: Path, *, timeout: float) -> None:
        configs = {folder.name: read_config(folder / CONFIG) for folder in sorted(path.iterdir()) if folder.is_dir()}
        ensembles = [config for config in configs.values() if config.platform == ENSEMBLE]
        if len(ensembles) != 1:
            raise FormatError(f"holds {len(ensembles)} ensembles, not one", path=path)
        self._config = ensembles[0]
        self._configs = configs
        _check_maps(self._config, configs, path / self._config.name / CONFIG)
        self._opened = ExitStack()
        self._sessions: dict[str, SavedModelSession] = {}
        try:
            for step in self._config.ensemble_scheduling.step:
                folder = path / step.model_name / "1" / SAVED_MODEL
                session = self._opened.enter_context(closing(SavedModelSession(folder, timeout=timeout)))
                _check_signature(configs[step.model_name], session, path / step.model_name / CONFIG)
                self._sessions[step.model_name] = session
        except BaseException:
            self._opened.close()
            raise

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors. Raises FormatError for a value that does not fit its configuration."""
        values = {entry.name: _checked(entry, _for_client(np.asarray(feeds[entry.name]))) for entry in self._config.input}
        waiting = list(self._config.ensemble_scheduling.step)
        while waiting:
            step = next((s for s in waiting if set(s.input_map.values()) <= values.keys()), None)
            if step is None:
                raise FormatError(f"step {waiting[0].model_name!r} of the ensemble never receives all its inputs")
            waiting.remove(step)
            config = self._configs[step.model_name]
            inputs = {e.name: _for_model(e, _checked(e, values[step.input_map[e.name]])) for e in config.input}
            results = self._sessions[step.model_name].run(inputs, [e.name for e in config.output])
            outputs = {e.name: _checked(e, _for_client(value)) for e, value in zip(config.output, results, strict=True)}
            values |= {tensor: outputs[key] for key, tensor in step.output_map.items()}
        scalars = {step.output_map[e.name] for step in self._config.ensemble_scheduling.step for e in self._scalars(step)}
        return [values[name].reshape(()) if name in scalars else values[name] for name in fetches]

    def _scalars(self, step: ModelEnsembling.Step) -> list[ModelOutput]:
        return [e for e in self._configs[step.model_name].output if e.HasField("reshape") and e.name in step.output_map]

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Any]], list[Array]]:
        """A function from the values of `feeds`, in order, to those of `fetches`."""
        return lambda values: self.run(dict(zip(feeds, values, strict=True)), fetches)

    def close(self) -> None:
        """Release the sessions of all sections."""
        self._opened.close()


def _for_client(value: Array) -> Array:
    """A value as Triton's protocol carries it, which has no scalars."""
    return value.reshape(1) if value.ndim == 0 else value


def _for_model(entry: ModelInput, value: Array) -> Array:
    return value.reshape(()) if entry.HasField("reshape") else value


def _checked(entry: ModelInput | ModelOutput, value: Array) -> Array:
    plain = value.reshape(()) if entry.HasField("reshape") else value
    if not fits(entry, dtype_name(value), plain.shape):
        raise FormatError(f"{entry.name!r} is {dtype_name(value)} {list(value.shape)}; its configuration states {list(entry.dims)}")
    return value


def _check_maps(ensemble: ModelConfig, configs: Mapping[str, ModelConfig], where: Path) -> None:
    """Check an ensemble as Triton does when it loads it: every map has two ends of the same dtype and shape. Raises FormatError."""
    tensors: dict[str, ModelInput | ModelOutput] = {entry.name: entry for entry in ensemble.input}
    written = set(tensors)

    def join(tensor: str, entry: ModelInput | ModelOutput, model: str) -> None:
        there = tensors.setdefault(tensor, entry)
        if there.data_type != entry.data_type or not same_dims(list(there.dims), list(entry.dims)):
            raise FormatError(f"{tensor!r} and {entry.name!r} of {model!r} differ in dtype or shape", path=where)

    for step in ensemble.ensemble_scheduling.step:
        config = configs.get(step.model_name)
        if config is None or config.platform != TENSORFLOW:
            raise FormatError(f"has a step {step.model_name!r}, which is not a model of the repository", path=where)
        inputs, outputs = ({e.name: e for e in entries} for entries in (config.input, config.output))
        if set(step.input_map) != set(inputs) or not set(step.output_map) <= set(outputs):
            raise FormatError(f"does not map the inputs and outputs of {step.model_name!r}", path=where)
        for key, tensor in step.input_map.items():
            join(tensor, inputs[key], step.model_name)
        for key, tensor in step.output_map.items():
            if tensor in written:
                raise FormatError(f"writes {tensor!r} twice", path=where)
            written.add(tensor)
            join(tensor, outputs[key], step.model_name)
    for entry in ensemble.output:
        if entry.name not in written:
            raise FormatError(f"never writes its output {entry.name!r}", path=where)
        join(entry.name, entry, ensemble.name)


def _check_signature(config: ModelConfig, session: SavedModelSession, where: Path) -> None:
    for entry in (*config.input, *config.output):
        dtype, shape = session.stated.get(entry.name, ("", None))
        if not dtype:
            raise FormatError(f"states {entry.name!r}, which its SavedModel does not have", path=where)
        if shape is None or not fits(entry, dtype, shape):
            raise FormatError(f"states {entry.name!r} as {list(entry.dims)}, its SavedModel as {dtype} {shape}", path=where)
