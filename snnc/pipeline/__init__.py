"""snnc.pipeline."""
