"""Weights and models in and out: files of other libraries (`files`), ONNX, C, PyTorch modules, Keras' lists."""
