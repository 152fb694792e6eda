"""Networks to train (needs torch)."""

from __future__ import annotations

from snnc.models.ge2ms_t import SIZES, Architecture, Ge2mST, ge2mst

__all__ = ["SIZES", "Architecture", "Ge2mST", "ge2mst"]
