"""Weights in and out: PyTorch's names in npz and safetensors, PyTorch's modules, Keras' lists, ONNX."""
