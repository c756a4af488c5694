"""``python -m graphsplit``."""

from graphsplit.cli import main

main()
