"""snnc.report."""
