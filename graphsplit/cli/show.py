"""graphsplit show: what is in a model."""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import islice
from typing import Any

from graphsplit.cli.arguments import Subparsers, add_command, add_model
from graphsplit.cli.child import prestart
from graphsplit.cli.printing import print_json, say, shape_text, spec_json, table
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.errors import TrustError
from graphsplit.formats import Model, load, scanned
from graphsplit.graph.index import TensorSpec
from graphsplit.planning.presets import match

__all__ = ["add"]

_FEW = 8  # numbers of a default that are printed
_MOST = 15  # rows of a table on the terminal; --json has all


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "show",
        run,
        "inputs, outputs, nodes by op and scope, loops, functions, ops that reach outside, family",
    )
    add_model(parser)
    parser.add_argument("--node", metavar="NAME", help="one node: its attributes, inputs and consumers")
    parser.add_argument("--shapes", action="store_true", help="infer the shapes that the file does not state (imports TensorFlow)")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.shapes:
        prestart(args, runs=False)
    with quiet_tensorflow(args.verbose):
        model = _load(args.model, args.trust)
    if args.node is not None:
        return _show_node(model, args)
    index = model.index
    outputs = model.outputs
    if args.shapes:
        from graphsplit.inference.shapes import infer

        with quiet_tensorflow(args.verbose), working("inferring shapes"):
            outputs = tuple(infer(model, index.outputs).values())
    preset = match(index)
    ops = Counter(n.op for n in index.nodes)
    answer = {
        "format": model.format,
        "inputs": [_input_json(model, s) for s in model.inputs],
        "outputs": [spec_json(s) for s in outputs],
        "signature": dict(model.signature),
        "signature_name": model.choice.name,
        "signatures": list(model.choice.names),
        "tags": None if model.choice.tags is None else list(model.choice.tags),
        "meta_graphs": [list(tags) for tags in model.choice.tag_sets],
        "nodes": len(index.nodes),
        "ops": dict(ops.most_common()),
        "scopes": dict(Counter(n.name.split("/")[0] for n in index.nodes if "/" in n.name).most_common()),
        "groups": [{"kind": g.kind, "name": g.name, "nodes": len(g.nodes)} for g in index.groups.values()],
        "functions": {name: list(f.ops) for name, f in index.functions.items()},
        "family": None if preset is None else preset.preset.family,
        "preset": None if preset is None else preset.preset.name,
        "reaches_outside": list(model.reaches_outside),
    }
    if args.json:
        print_json(answer)
        return 0
    _print(args.model, model, answer, outputs, "" if preset is None else f"{preset.preset.title} ({preset.reason})")
    return 0


def _input_json(model: Model, spec: TensorSpec) -> dict[str, object]:
    """An input as JSON; of one that need not be fed also the default, if that is a constant of a few numbers."""
    if not spec.optional:
        return spec_json(spec)
    constant = model.index.defaults[spec.name]
    value = None if constant is None else model.constant(constant)
    shown = (
        value is not None and value.dtype.kind in "biuf" and value.size <= _FEW and abs(value).max(initial=0) < float("inf")
    )  # JSON has neither NaN nor ∞
    return {**spec_json(spec), "optional": True, "default": value.tolist() if value is not None and shown else None}


def _default_text(entry: dict[str, Any]) -> str:
    if not entry.get("optional"):
        return ""
    return " (optional)" if entry["default"] is None else f" (optional, default {entry['default']})"


def _load(path: str, trust: bool) -> Model:
    try:
        return load(path, trust=trust)
    except TrustError:
        # A SavedModel that would run something while it is frozen: shown as it is in the file, unfrozen.
        return scanned(path)


def _print(path: str, model: Model, answer: dict[str, Any], outputs: tuple[TensorSpec, ...], family: str) -> None:
    say(f": {answer['format']}, {answer['nodes']:,} nodes, {model.nbytes:,} bytes", bold=path)
    say(f"family: {family or 'unknown; name a cut: graphsplit split MODEL --outputs A,B,…'}")
    for note in model.choice.notes:
        say(f"note: {note}")
    keys = {t: ", ".join(k for k, of in model.signature.items() if of == t) for t in model.signature.values()}
    named = [(f"input{_default_text(i)}", s) for s, i in zip(model.inputs, answer["inputs"], strict=True)]
    named += [("output", s) for s in outputs]
    rows = [(kind, s.name, s.dtype or "?", shape_text(s.shape), keys.get(s.name, "")) for kind, s in named]
    table("Inputs and outputs", ["", "tensor", "dtype", "shape", "key"][: 5 if keys else 4], [r[: 5 if keys else 4] for r in rows])
    table("Ops", ["op", "count"], _most(answer["ops"]))
    if answer["scopes"]:
        table("Scopes", ["scope", "nodes"], _most(answer["scopes"]))
    if answer["groups"]:
        table(
            "Groups (never cut through)",
            ["kind", "name", "nodes"],
            [(g["kind"], g["name"], g["nodes"]) for g in answer["groups"]],
        )
    if answer["functions"]:
        rows_f = [(name, ", ".join(ops[:8]) + (" …" if len(ops) > 8 else "")) for name, ops in answer["functions"].items()]
        table("Functions", ["name", "ops"], rows_f)
    if answer["reaches_outside"]:
        ops = {n.name: n.op for n in model.index.nodes}
        rows_o = [(name, ops.get(name, "in a function of the library")) for name in answer["reaches_outside"]]
        table("Reaches outside the graph (not run without --trust)", ["node", "op"], rows_o)


def _most(counts: dict[str, int]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = list(islice(counts.items(), _MOST))
    if len(counts) > _MOST:
        rest = sum(list(counts.values())[_MOST:])
        rows.append((f"… {len(counts) - _MOST} more", rest))
    return rows


def _show_node(model: Model, args: argparse.Namespace) -> int:
    index = model.index
    node = index.node(args.node)
    specs = [index.tensors[t] for t in node.outputs]
    if args.shapes and node.kind == "op":
        from graphsplit.inference.shapes import infer

        with quiet_tensorflow(args.verbose), working("inferring shapes"):
            inferred = infer(model, [t for t in node.outputs if t not in index.captive])
        specs = [inferred.get(s.name, s) for s in specs]
    attributes, device = dict(model.attributes(node.name)), model.device(node.name)
    answer = {
        "name": node.name,
        "op": node.op,
        "device": device,
        "position": index.node_seq[node.name],
        "inputs": list(node.inputs),
        "after": list(node.control_inputs),
        "outputs": [{**spec_json(s), "consumers": list(index.consumers.get(s.name, ()))} for s in specs],
        "attributes": attributes,
        "stateful": node.stateful,
        "group": node.group,
        "functions": list(index.calls.get(node.name, ())),
        "reaches_outside": node.name in model.reaches_outside,
    }
    if args.json:
        print_json(answer)
        return 0
    say(f": {node.op}, node {answer['position']} of {len(index.nodes)}", bold=node.name)
    rows = [("input", t) for t in node.inputs] + [("control input", c) for c in node.control_inputs]
    rows += [(f"attribute {k}", v) for k, v in attributes.items()]
    rows += [("device", device)] if device else []
    rows += [("inside", f"{index.groups[node.group].kind} {node.group}")] if node.group else []
    rows += [("stateful", "yes")] if node.stateful else []
    for spec in specs:
        rows.append(("output", f"{spec.name} {spec.dtype or '?'} {shape_text(spec.shape)}"))
        rows += [("  read by", name) for name in index.consumers.get(spec.name, ())]
    table("", ["", ""], rows)
    return 0
