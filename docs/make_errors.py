"""Write docs/errors.md from the pages of snnc/explain.

python docs/make_errors.py
"""

from __future__ import annotations

from pathlib import Path

from snnc.explain import markdown

if __name__ == "__main__":
    Path(__file__).with_name("errors.md").write_text(markdown(), encoding="utf-8")
