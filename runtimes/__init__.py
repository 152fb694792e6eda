"""snnc.runtimes."""

if __name__ != "snnc.runtimes":
    raise ImportError(
        f"this folder is the package 'snnc.runtimes', but it was imported as {__name__!r}: write 'import snnc.runtimes'"
    )
