"""Small example programs: controller, closure, streams, c_callbacks and others."""
