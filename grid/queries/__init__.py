"""The client's query files, a folder for each version. Reading them is the task of `grid.chain.registry`."""
