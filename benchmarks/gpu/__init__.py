"""What `lstm_numba.benchmarks.on_gpu` runs: its sections' programs, and who starts and stops them."""
