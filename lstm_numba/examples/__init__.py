"""Small programs to read, to run and to start from: controller, closure, streams, c_callbacks and others."""
