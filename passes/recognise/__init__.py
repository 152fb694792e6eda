"""Passes: recognise."""
