"""From other ecosystems to ONNX files that snnc reads; each module names what it needs."""
