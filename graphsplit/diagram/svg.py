"""A scene as SVG, without script and external fonts; every name is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Literal

from graphsplit.diagram.colours import legend, tint
from graphsplit.diagram.layout import Item, Placed, arrange, layers
from graphsplit.diagram.view import Block, Scene
from graphsplit.graph.text import bytes_text, count_text, escaped, shape_text, shortened

__all__ = ["render"]

_WIDE = 4  # clusters side by side
_TENSORS = 3  # tensors side by side
_BOX = (206.0, 40.0)
_PILL = 36.0  # pixels, height
_LETTER, _BOLD = 6.3, 7.1  # pixels, widths of letters of 11 px text, estimated high
_ROW = 26.0  # pixels between rows
_PAD = 16.0
_HEAD = 30.0  # pixels, height of the title of a section
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"
_SHOWN = 24  # tensors of one border; the others are counted


@dataclass(frozen=True, slots=True)
class _Pill:
    """A tensor as drawn: a line with its name, one with its dtype, shape and size, a tooltip."""

    kind: Literal["input", "border", "output"]
    name: str
    facts: str
    title: str


def _ending(text: str, limit: int) -> str:
    """The end of the name of a scope, starting at a whole part if possible."""
    if len(text) <= limit:
        return text
    end = text[len(text) - limit + 2 :]
    return f"…/{end.partition('/')[2]}" if "/" in end else f"…{end}"


def _beginning(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def render(scene: Scene) -> str:
    """The SVG of a scene, as text."""
    return _Drawing(scene).text()


class _Drawing:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.items: list[Item] = []
        self.pills: dict[str, _Pill] = {}
        self.edges: dict[tuple[str, str], Literal["inside", "data"]] = {}
        self.spans: list[tuple[Block, int, int]] = []  # first and last row of each section
        self.labels: dict[str, tuple[str, str, str]] = {}  # item → title, line below, tooltip
        self.row = 0
        self._place()
        self.placed: Placed = arrange(self.items, self.edges)

    # rows

    def _place(self) -> None:
        scene = self.scene
        self._tensors("input", list(scene.inputs))
        borders, ends = set(scene.borders), set(scene.outputs)
        for number, block in enumerate(scene.blocks):
            first = self.row
            self._clusters(number, block)
            self.spans.append((block, first, self.row - 1))
            wanted = [t for t in block.makes if t in borders or t in ends]
            self._tensors("border", [t for t in wanted if t in borders])
            self._tensors("output", [t for t in wanted if t not in borders])
            for tensor, maker in block.makes.items():
                if maker is not None:
                    self._edge(f"{number}.{maker}", f"t {tensor}")
        for number, block in enumerate(scene.blocks):
            for tensor, readers in block.reads.items():
                for reader in readers:
                    self._edge(f"t {tensor}", f"{number}.{reader}")

    def _edge(self, one: str, other: str) -> None:
        if all(name in self.labels or name in self.pills for name in (one, other)):
            self.edges[one, other] = "data"

    def _clusters(self, number: int, block: Block) -> None:
        names = [f"{number}.{i}" for i in range(len(block.clusters))]
        edges = [(names[a], names[b]) for a, b in block.edges]
        rows = layers(names, edges, _WIDE)
        for name, cluster in zip(names, block.clusters, strict=True):
            count = "1 node" if len(cluster.nodes) == 1 else f"{len(cluster.nodes):,} nodes"
            ops = ", ".join(op if n == 1 else f"{op} ×{n}" for op, n in cluster.ops)
            frequent = ", ".join(op for op, _ in cluster.ops)
            below = ": ".join(filter(None, (count if len(cluster.nodes) > 1 or not frequent else "", frequent)))
            self.labels[name] = (cluster.title, below, f"{cluster.title}\n{count}" + (f": {ops}" if ops else ""))
        for row in rows:
            self.items += [Item(name, self.row, *_BOX) for name in row]
            self.row += 1
        if not rows:
            self.row += 1
        for pair in edges:
            self.edges[pair] = "inside"

    def _tensors(self, kind: Literal["input", "border", "output"], tensors: list[str]) -> None:
        """Add rows of tensors; a tensor that is drawn already keeps its place."""
        tensors = [t for t in tensors if f"t {t}" not in self.pills]
        more = tensors[_SHOWN:]
        tensors = tensors[:_SHOWN] + ([f"{len(more)} more"] if more else [])
        for i in range(0, len(tensors), _TENSORS):
            for tensor in tensors[i : i + _TENSORS]:
                pill = self._pill(kind, tensor)
                self.pills[f"t {tensor}"] = pill
                width = max(len(pill.name) * _BOLD, len(pill.facts) * _LETTER) + 24
                self.items.append(Item(f"t {tensor}", self.row, width, _PILL))
            self.row += 1

    def _pill(self, kind: Literal["input", "border", "output"], tensor: str) -> _Pill:
        spec = self.scene.specs.get(tensor)
        if spec is None:
            return _Pill(kind, shortened(tensor, 46), "", tensor)
        size = spec.frame().nbytes
        facts = f"{spec.dtype or '?'} {shape_text(spec.shape)}"
        if size is not None:
            facts += f" · {bytes_text(size)}"
        if tensor in self.scene.added:
            facts += " · added"
        return _Pill(kind, shortened(tensor, 46), shortened(facts, 46), f"{tensor}\n{facts}")

    # text

    def text(self) -> str:
        """The SVG."""
        heights = [0.0] * max(1, self.row)
        for item in self.items:
            heights[item.row] = max(heights[item.row], item.height)
        tops, bottom = self._tops(heights)
        shift = max(0.0, (_least_width(self.scene) - self.placed.width) / 2) + 2 * _PAD
        width = max(self.placed.width, _least_width(self.scene)) + 4 * _PAD
        x = {name: centre + shift for name, centre in self.placed.centres.items()}
        body = [
            *self._heading(width),
            *(self._section(block, tops[a], tops[b] + heights[b], width) for block, a, b in self.spans),
            *self._wires(x, tops, heights),
            *(self._drawn(item, x[item.name], tops[item.row]) for item in self.items),
        ]
        size = f'width="{width:.0f}" height="{bottom:.0f}" viewBox="0 0 {width:.0f} {bottom:.0f}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}" font-size="11" role="img" '
            f'aria-label="{_plain("sections of " + self.scene.title)}"><rect width="100%" height="100%" fill="#ffffff"/>'
            + "\n".join(body)
            + "</svg>\n"
        )

    def _tops(self, heights: list[float]) -> tuple[list[float], float]:
        """Tops of the rows, and the bottom of the picture; a section has a title above it and padding around it."""
        first = {a for _, a, _ in self.spans}
        last = {b for _, _, b in self.spans}
        tops: list[float] = []
        y = 62.0 if self.scene.target is None else 78.0
        for row, height in enumerate(heights):
            if row in first:
                y += _HEAD
            tops.append(y)
            y += height + _ROW + (_PAD if row in last else 0)
        return tops, y - _ROW + _PAD

    def _heading(self, width: float) -> Iterable[str]:
        total = sum(self.scene.specs[t].frame().nbytes or 0 for t in self.scene.borders if t in self.scene.specs)
        open_ones = any(self.scene.specs[t].frame().nbytes is None for t in self.scene.borders if t in self.scene.specs)
        count = len(self.scene.borders)
        crossing = "1 tensor crosses" if count == 1 else f"{count} tensors cross"
        if total:
            crossing += f", {'at least ' if open_ones else ''}{bytes_text(total)} a frame"
        about = crossing if len(self.scene.blocks) > 1 else "one section, nothing crosses"
        limit = int((width - 4 * _PAD) / 8.5)
        title = _plain(shortened(self.scene.title, limit))
        yield f'<text x="{2 * _PAD}" y="26" font-size="15" font-weight="600" fill="#20242a">{title}</text>'
        yield f'<text x="{2 * _PAD}" y="44" fill="#565d66">{_plain(about)}</text>'
        if (answer := self.scene.target) is not None:
            left = f"; {count_text(len(answer.refused), 'op')} left on the host" if answer.refused else ""
            said = shortened(f"{answer.target}: {answer.summary()}{left}", int((width - 4 * _PAD) / _LETTER))
            yield f'<text x="{2 * _PAD}" y="60" fill="#565d66">{_plain(said)}</text>'
        x = width - 2 * _PAD
        entries = legend([b.name for b in self.scene.blocks])
        if sum(len(name) * _LETTER + 24 for name, _ in entries) > width - 4 * _PAD - len(about) * _LETTER:
            return  # sections have their names
        for name, colours in reversed(entries):
            x -= len(name) * _LETTER + 24
            yield f'<rect x="{x:.1f}" y="35" width="11" height="11" rx="2" fill="{colours.back}" stroke="{colours.frame}"/>'
            yield f'<text x="{x + 16:.1f}" y="44.5" fill="#565d66">{_plain(name)}</text>'

    def _section(self, block: Block, top: float, bottom: float, width: float) -> str:
        colours = tint(block.name)
        y, height = top - _HEAD, bottom - top + _HEAD + _PAD * 0.8
        nodes = "1 node" if block.size == 1 else f"{block.size:,} nodes"
        return (
            f'<g class="section"><rect x="{_PAD}" y="{y:.1f}" width="{width - 2 * _PAD:.1f}" height="{height:.1f}" rx="10" '
            f'fill="{colours.back}" stroke="{colours.frame}" stroke-width="1.2"/>'
            f'<text x="{2 * _PAD}" y="{y + 19:.1f}" font-size="13" font-weight="600" fill="{colours.ink}">{_plain(block.name)}'
            f'<tspan font-weight="400" font-size="11" dx="8">{nodes}</tspan></text></g>'
        )

    def _wires(self, x: Mapping[str, float], tops: list[float], heights: list[float]) -> Iterable[str]:
        rows = {item.name: item.row for item in self.items}
        tall = {item.name: item.height for item in self.items}
        for (one, other), path in self.placed.paths.items():
            colour = "#8b95a1" if self.edges[one, other] == "inside" else "#4b5563"
            start, end = tops[rows[one]] + tall[one], tops[rows[other]]
            if rows[other] <= rows[one]:  # upwards: a loop between scopes
                side, far = x[one] + _BOX[0] / 2, x[other] + _BOX[0] / 2
                d = f"M{side:.1f} {start - 14:.1f} C{side + 26:.1f} {start - 14:.1f} {side + 26:.1f} {end + 14:.1f} "
                yield f'<path d="{d}{far:.1f} {end + 14:.1f}" fill="none" stroke="{colour}" stroke-dasharray="3 3"/>'
                continue
            points = [(x[one], start)]
            for point in path[1:-1]:
                row = int(point.rpartition("\0")[2])
                points += [(x[point], tops[row] - 2), (x[point], tops[row] + heights[row] + 2)]
            points.append((x[other], end - 5))
            yield f'<path d="{_curve(points)}" fill="none" stroke="{colour}"/>{_head(x[other], end, colour)}'

    def _drawn(self, item: Item, x: float, y: float) -> str:
        box = f'x="{x - item.width / 2:.1f}" y="{y:.1f}" width="{item.width:.1f}" height="{item.height}"'
        pill = self.pills.get(item.name)
        if pill is None:
            title, below, tip = self.labels[item.name]
            frame = tint(self.scene.blocks[int(item.name.partition(".")[0])].name).frame
            return (
                f'<g class="scope"><title>{_plain(tip)}</title><rect {box} rx="5" fill="#ffffff" stroke="{frame}" '
                f'stroke-opacity=".55"/>{_centred(x, y + 17, _ending(title, 26), 600)}'
                f"{_centred(x, y + 31, _beginning(below, 33), 400, size=10)}</g>"
            )
        text = _centred(x, y + 15.5, pill.name, 600) + _centred(x, y + 28.5, pill.facts, 400, size=10.5)
        if not pill.facts:
            text = _centred(x, y + 22, pill.name, 600)
        back, frame = ("#fff7c2", "#a68a00") if pill.kind == "border" else ("#eceff2", "#6b7280")
        return (
            f'<g class="{pill.kind}"><title>{_plain(pill.title)}</title><rect {box} rx="{item.height / 2}" fill="{back}" '
            f'stroke="{frame}"/>{text}</g>'
        )


def _centred(x: float, y: float, text: str, weight: int, *, size: float = 11) -> str:
    fill = "#20242a" if weight > 400 else "#454c55"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}">{_plain(text)}</text>'
    )


def _least_width(scene: Scene) -> float:
    return 520.0 + 60.0 * (len(scene.blocks) > 2)


def _curve(points: list[tuple[float, float]]) -> str:
    """A line from top to bottom that starts and ends vertically."""
    (x, y), *rest = points
    d = f"M{x:.1f} {y:.1f}"
    for to_x, to_y in rest:
        if abs(to_x - x) < 0.5:
            d += f" L{to_x:.1f} {to_y:.1f}"
        else:
            half = (y + to_y) / 2
            d += f" C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    return d


def _head(x: float, y: float, colour: str) -> str:
    return f'<path d="M{x:.1f} {y:.1f} l-3.5 -6 h7 z" fill="{colour}"/>'


def _plain(text: str) -> str:
    """Text for XML: markup is escaped, and so is what XML does not allow or what would reorder the line."""
    return escape(escaped(text, keep="\n\t"))
