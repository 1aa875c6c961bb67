"""Reading and writing weights: npz and safetensors files, PyTorch modules, Keras weights, ONNX models."""
