"""snnc: a compiler from artificial to spiking neural networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnc.compile import ConvertOptions, convert
    from snnc.frontends.torch_export import export

if Path(__file__).with_name("passes").is_file():
    raise ImportError(
        "this checkout wrote the links snnc/passes and snnc/runtimes as text files: run "
        "'git config core.symlinks true && git checkout -- snnc/passes snnc/runtimes'"
    )

__version__ = "0.1.0"
__all__ = ["ConvertOptions", "__version__", "convert", "export"]


def __getattr__(name: str) -> Any:
    """Import when first asked for: ``import snnc`` loads neither torch nor onnxruntime."""
    if name in ("ConvertOptions", "convert"):
        from snnc import compile as compiler

        return getattr(compiler, name)
    if name != "export":
        raise AttributeError(f"module 'snnc' has no attribute {name!r}")
    try:
        from snnc.frontends.torch_export import export
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("torch", "onnxscript"):
            raise
        from snnc.errors import EnvironmentFailure

        raise EnvironmentFailure(
            "SNN610", f"snnc.export needs the package {error.name!r}", hint="pip install 'snnc[torch]'"
        ) from error
    return export
