"""Weights and models in and out: other libraries' files (`files`), ONNX, C, PyTorch modules, Keras' lists."""
