"""Coverage-guided fuzzing with atheris.

python -m tests.fuzz TARGET [libFuzzer options], such as: python -m tests.fuzz admission -runs=1000000
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["snnc"]):
    from tests.fuzz.targets import SEEDS, TARGETS


def main() -> None:
    """Fuzz one target; seeds are written to a corpus folder that libFuzzer adds to."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [-runs=N] [CORPUS]")
    name, options = sys.argv[1], sys.argv[2:]
    folders = [option for option in options if not option.startswith("-")]
    folder = Path(folders[0] if folders else tempfile.mkdtemp(prefix=f"snnc-corpus-{name}-"))
    folder.mkdir(exist_ok=True)
    for index, content in enumerate(SEEDS[name]):
        (folder / f"seed-{index:04}").write_bytes(content)
    if not folders:
        options.append(str(folder))
    # A slow unit or one that takes much memory is a finding like any other.
    limits = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *limits, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
