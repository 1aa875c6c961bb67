"""The CPU engine: packed weights, register-tiled products and the loops over time and batch."""
