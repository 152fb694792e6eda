"""snnc.passes."""

if __name__ != "snnc.passes":
    raise ImportError(
        f"this folder is the package 'snnc.passes', but it was imported as {__name__!r}: write 'import snnc.passes'"
    )
