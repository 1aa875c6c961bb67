"""HDF5 files out of untrusted bytes, as far as Keras writes them."""
