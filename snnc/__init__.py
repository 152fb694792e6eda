"""snnc: a compiler from artificial to spiking neural networks."""

from pathlib import Path

if Path(__file__).with_name("passes").is_file():
    raise ImportError(
        "this checkout wrote the links snnc/passes and snnc/runtimes as text files: run "
        "'git config core.symlinks true && git checkout -- snnc/passes snnc/runtimes'"
    )

__version__ = "0.1.0"
__all__ = ["__version__"]
