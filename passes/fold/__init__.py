"""Passes: fold."""
