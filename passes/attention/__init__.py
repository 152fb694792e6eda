"""Passes that change what attends to what: approximate, never done unasked."""
