"""The passes: clean-up, recognition, quantisation, encoding; and the pipelines made of them."""

if __name__ != "snnc.passes":
    raise ImportError(
        f"this folder is the package 'snnc.passes', but it was imported as {__name__!r}: "
        "write 'import snnc.passes'"
    )

from snnc.passes.pipelines import front_end, quantisers_of

__all__ = ["front_end", "quantisers_of"]
