"""Class names: COCO's, label maps of the Object Detection API, plain lists. Read without TensorFlow.

Label ids count from 1; the class ids of a model count from 1 (the API's frozen graphs) or from 0 (TFLite, CenterNet).
`for_model` reconciles the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path

from graphsplit.detection.label_map import Entry, is_label_map, label_map
from graphsplit.errors import FormatError

__all__ = ["Labels", "coco", "for_model", "packed_labels", "read_labels"]

Names = Mapping[int, str]
Labels = str | PathLike[str] | Names | Iterable[str]

_UNUSED = "???"  # in label files of TFLite
_DIGITS = 10  # of an id
_LIMIT = 16 * 2**20  # bytes of a label file
_COCO_IDS, _COCO_CLASSES = 90, 80  # the ids of COCO go to 90, ten of them unused


def for_model(labels: Labels | None, *, classes: int | None, first: int) -> dict[int, str]:
    """Map the class ids of a model to names.

    If the model has as many classes as there are labels, they are matched by order, else by id.

    Args:
        labels: None: COCO's for a model of 90 classes, or of 80 counted from 0, else none; "coco"; the path of a file (see
            `read_labels`); a list of names in order; or a dict whose keys are class ids as the model numbers them.
        classes: The number of classes, if known.
        first: The id of the model's first class: 1 or 0.

    Returns:
        Class id as the model numbers them → name.

    Raises:
        FormatError: for a file that cannot be read.
    """
    if isinstance(labels, Mapping):
        return {int(key): str(name) for key, name in labels.items()}
    if labels is None:
        if classes != _COCO_IDS and (classes, first) != (_COCO_CLASSES, 0):
            return {}
        labels = "coco"
    if isinstance(labels, (str, PathLike)):
        names = coco() if labels == "coco" and not Path("coco").is_file() else read_labels(labels)
    else:
        names = dict(enumerate(map(str, labels), 1))
    if classes == len(names):
        return dict(enumerate((names[i] for i in sorted(names)), first))
    return names if first == 1 or 0 in names else {i - 1: name for i, name in names.items()}


def packed_labels(lines: Sequence[str], *, first: int) -> dict[int, str]:
    """Names of a label file that is packed with a model: a line for each class, some of them unused, perhaps the background first.

    Args:
        lines: Of the file.
        first: The id of the model's first class: 1 or 0.

    Returns:
        Class id → name.
    """
    classes = lines[1:] if lines[:1] == (_UNUSED,) else lines
    return {i: name for i, name in enumerate(classes, first) if name not in ("", _UNUSED)}


def coco() -> dict[int, str]:
    """The 80 classes of COCO: label id, from 1 to 90 with gaps, → name."""
    return _lines((resources.files(__package__) / "coco.txt").read_text(encoding="utf-8"), Path("coco.txt"))


def read_labels(path: str | PathLike[str]) -> dict[int, str]:
    """Read a label file of one of three kinds, recognised by content:

        item { id: 1 name: "/m/01g317" display_name: "person" }    a label map (.pbtxt); the display name is preferred
        1 person                                                   an id and a name per line
        person                                                     a name per line; the first line is id 1

    Args:
        path: Of the file.

    Returns:
        Label id → name.

    Raises:
        FormatError: names the file and the line.
    """
    where = Path(path)
    try:
        if where.exists() and not where.is_file():
            raise FormatError("not a file; labels are a .pbtxt label map, or a name per line", path=where)
        if where.stat().st_size > _LIMIT:
            raise FormatError(f"too large for a label file ({where.stat().st_size:,} bytes)", path=where)
        text = where.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=where) from error
    except UnicodeDecodeError as error:
        raise FormatError("not a text file; labels are a .pbtxt label map, or a name per line", path=where) from error
    names = _unique(label_map(text, where), where) if is_label_map(text) else _lines(text, where)
    if not names:
        raise FormatError("it holds no labels", path=where)
    return names


def _unique(entries: Iterable[Entry], path: Path) -> dict[int, str]:
    seen: dict[int, Entry] = {}
    for entry in entries:
        if entry.id in seen:
            raise FormatError(f"line {entry.line}: id {entry.id} is already defined on line {seen[entry.id].line}", path=path)
        seen[entry.id] = entry
    return {e.id: e.name for e in seen.values()}


def _lines(text: str, path: Path) -> dict[int, str]:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    filled = [(number, line) for number, line in lines if line]
    matches = [(number, re.fullmatch(r"(\d+)\s*[\s:,;=]\s*(\S.*)", line)) for number, line in filled]
    with_ids = [number for number, match in matches if match]
    if len(with_ids) < len(filled) or not filled:
        if len(with_ids) > len(filled) // 2 > 0:
            number, line = next((n, li) for n, li in filled if n not in with_ids)
            raise FormatError(f"line {number}: {line[:60]!r} has no id, while most lines do (`1 person`)", path=path)
        return dict(filled)
    for number, found in matches:
        if found and len(found[1]) > _DIGITS:
            raise FormatError(f"line {number}: the id {found[1][:20]}… has {len(found[1]):,} digits", path=path)
    return _unique((Entry(number, int(m[1]), m[2].strip("\"'")) for number, m in matches if m), path)
