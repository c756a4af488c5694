"""The keys by which a file names inputs and outputs: of a SavedModel's or TFLite file's signature, of a Keras model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["Signature"]


@dataclass(frozen=True, slots=True)
class Signature(Mapping[str, str]):
    """Key → tensor of the whole, inputs first. A key of an input that is also one of an output is that of the output.

    Attributes:
        inputs: Key → tensor to feed.
        outputs: Key → tensor to fetch.
    """

    inputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    outputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __getitem__(self, key: str) -> str:
        return self.outputs[key] if key in self.outputs else self.inputs[key]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.inputs, **self.outputs})

    def __len__(self) -> int:
        return len({**self.inputs, **self.outputs})

    def kept(self, inputs: Iterable[str], outputs: Iterable[str]) -> Signature:
        """What remains of it if only these tensors are fed and fetched."""
        fed, fetched = set(inputs), set(outputs)
        return Signature(
            {k: t for k, t in self.inputs.items() if t in fed},
            {k: t for k, t in self.outputs.items() if t in fetched},
        )

    def key(self, tensor: str) -> str | None:
        """The first key of a tensor."""
        return next((k for k, t in (*self.outputs.items(), *self.inputs.items()) if t == tensor), None)
