"""Bundles of ExpG-1: compiled, proved, simulated, and written for other people's tools."""
