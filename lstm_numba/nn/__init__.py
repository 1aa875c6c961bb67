"""Objects that users hold: recurrent layers, linear layer, embedding, losses, cells of their own."""
