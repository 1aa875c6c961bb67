"""Small example programs: controller, closure, streams, amplifier, c_callbacks and others."""
