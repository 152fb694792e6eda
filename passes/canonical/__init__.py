"""Passes: canonical."""
