"""A graph divided into a chain of sections whose slowest is as fast as can be.

Workload ──▶ ideals ──▶ chain (exact) ──▶ Partition
   │           └ too many                    ▲
   └─────────▶ program (with its gap) ───────┘
"""
