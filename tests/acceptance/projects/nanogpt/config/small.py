"""A small model."""

n_layer = 2
learning_rate = 1e-3
