"""Files of Keras: the layers that the configuration describes, with the arrays of the weights."""
