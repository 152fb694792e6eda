"""snnc.cli."""
