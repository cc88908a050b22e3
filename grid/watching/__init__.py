"""Waiting for runs and experiments, and watching what happens in them."""
