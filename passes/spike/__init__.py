"""Passes: spike."""
