#!/usr/bin/env python3
"""Workloads with published optima, divided by the search of this package.

    python benchmarks/optimum.py FOLDER [--json results.json]

FOLDER holds workloads as published with Tarnawski et al., *Efficient Algorithms for Device Placement of DNN Graph Operators*
(NeurIPS 2020): JSON files with `nodes`, `edges`, `maxFPGAs`, `maxCPUs` and `maxSizePerFPGA`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter

from processes import print_table

from graphsplit.partition.partition import partition
from graphsplit.partition.workload import DeviceClass, Tensor, Unit, Workload


def read(path: Path) -> Workload:
    """A published workload."""
    data = json.loads(path.read_text(encoding="utf-8"))
    units, colours = [], {}
    for node in data["nodes"]:
        name = str(node["id"])
        costs = {"cpu": node["cpuLatency"]} | ({"accelerator": node["fpgaLatency"]} if node["supportedOnFpga"] else {})
        units.append(Unit(name, costs, node["size"]))
        colours.setdefault(node.get("colorClass", name), []).append(name)
    readers, cost = {}, {}
    for edge in data["edges"]:
        readers.setdefault(str(edge["sourceId"]), []).append(str(edge["destId"]))
        cost[str(edge["sourceId"])] = edge["cost"]
    tensors = [Tensor(source, tuple(dict.fromkeys(to)), cost[source]) for source, to in readers.items()]
    devices = [
        DeviceClass("accelerator", data["maxFPGAs"], memory=data["maxSizePerFPGA"]),
        DeviceClass("cpu", data["maxCPUs"], transfers=False),
    ]
    return Workload(units, tensors, devices).merged(colours.values())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with workloads")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the results as JSON, to a file or stdout")
    args = parser.parse_args()
    results = {}
    for path in sorted(args.folder.glob("*.json")):
        begin = perf_counter()
        answer = partition(read(path))
        seconds = perf_counter() - begin
        results[path.stem] = {
            "optimum": round(answer.period, 6), "seconds": round(seconds, 3), "optimal": answer.gap == 0.0,
            "sections": len(answer.sections), "ideals": answer.ideals,
        }  # fmt: skip
    text = json.dumps({"workloads": results}, indent=1)
    if args.json == "-":
        print(text)
        return
    if args.json:
        Path(args.json).write_text(text + "\n", encoding="utf-8")
    print_table(
        "The largest load of a section, as small as can be",
        ["workload", "optimum", "proven", "sections", "ideals", "seconds"],
        [
            (name, f"{r['optimum']:.3f}", "yes" if r["optimal"] else "no", r["sections"], r["ideals"] or "", f"{r['seconds']:.1f}")
            for name, r in results.items()
        ],
    )


if __name__ == "__main__":
    main()
