"""Lowering of the spike dialect to instructions of ExpG-1."""
