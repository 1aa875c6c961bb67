"""ONNX models: layers and whole models written, layers and nodes read; `writer` encodes, `graph` looks names up."""
