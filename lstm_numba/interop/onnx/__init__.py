"""ONNX models: layers and whole models are written, layers and nodes read."""
