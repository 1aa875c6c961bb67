"""Pickles, read by interpreting their instructions: nothing that they name is imported or called."""
