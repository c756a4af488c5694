"""Detection in archives of images and videos, written as files of rows: on this machine, or on a Ray cluster."""

from graphsplit.batching.inventory import Item, inventory
from graphsplit.batching.running import Summary, run_batch

__all__ = ["Item", "Summary", "inventory", "run_batch"]
