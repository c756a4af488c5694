"""Messages of the library name arguments of Python; on the command line the same remedies are flags."""

from __future__ import annotations

import argparse
import re

__all__ = ["REMEDIES", "in_flags"]

# What a message of the library may say → the flag, and the command that has it if the one that is running has not.
REMEDIES: dict[str, tuple[str, str]] = {
    r"split\(\) runs nothing": ("split --no-verify runs nothing", ""),
    r"split\(.*?, inputs=…, outputs=…\)": ("graphsplit split --inputs A,B,… --outputs A,B,…", ""),
    r"export\(.*?, section=\"main\"\)": ("export --section main", ""),
    r"export\(…, to=\"tflite\"\)": ("graphsplit export --to tflite", ""),
    r"\bask=False": ("--no-ask", "split"),
    r"\btarget=…": ("--target NAME", "split"),
    r"overwrite=True": ("--overwrite", "split"),
    r"trust=True": ("--trust", "split"),
    r"resume=True": ("--resume", "batch"),
    r"autocrop=True": ("--autocrop", "split"),
    r"verify=False": ("--no-verify", "split"),
    r"shapes=False": ("--no-shapes", "split"),
    r"repair=\"(\w+)\"": (r"--repair \1", "split"),
    r"preset=\"([\w./-]+)\"": (r"--preset \1", "split"),
    r"\bmodel_outputs=\"([^\"]*)\"": (r"--model-outputs \1", "split"),
    r"\binputs=\"([^\"]*)\"": (r"--inputs \1", "split"),
    r"\bmodel_outputs=…": ("--model-outputs A,B,…", "split"),
    r"\bsignature=…": ("--signature NAME", "split"),
    r"\btags=…": ("--tags A,B", "split"),
    r"\binputs=…": ("--inputs A,B,…", "split"),
    r"\boutputs=…": ("--outputs A,B,…", "split"),
    r"\bfeeds=…": ("--feed NAME=VALUE", "verify"),
    r"\bshapes=…": ("--shape NAME=1,3,224,224", "verify"),
    r"\bsection=…": ("--section NAME", "export"),
    r"\brtol=…": ("--rtol R", "verify"),
    r"\batol=…": ("--atol A", "verify"),
    r"\bport=…": ("--port N", "view"),
    r"\bactors=…": ("--actors STAGE=N", "batch"),
    r"\bcpus=…": ("--cpus STAGE=X", "batch"),
    r"\bgpus=…": ("--gpus STAGE=X", "batch"),
    r"\bcluster=…": ("--cluster FILE", "detect"),
    r"\blabels=…": ("--labels FILE", "detect"),
    r"\bcrop_file=…": ("--crop-file FILE", "split"),
}


def in_flags(message: str, parser: argparse.ArgumentParser | None = None) -> str:
    """A message of the library, with flags in place of arguments.

    Args:
        message: The message.
        parser: The parser of the command that is running; a flag that it lacks is named with a command that has it. None: it has
            every flag.
    """
    help_text = parser.format_help() if parser is not None else None
    for argument, (flag, home) in REMEDIES.items():
        name = flag.split()[0]
        there = not home or help_text is None or re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", help_text)
        message = re.sub(argument, flag if there else f"graphsplit {home} {flag}", message)
    return message
