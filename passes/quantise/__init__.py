"""Passes: quantise."""
