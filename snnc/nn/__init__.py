"""snnc.nn."""
