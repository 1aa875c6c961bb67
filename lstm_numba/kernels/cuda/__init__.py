"""The cells as device functions, for CUDA kernels of users."""
