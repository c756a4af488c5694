"""The version, alone in a module so that nothing else has to be imported to know it."""

VERSION = "0.1.0"
