"""Recurrent layers, linear layer, embedding, losses, registration of cells, gradient check."""
