"""Benchmarks of Grid, each beside a baseline that is measured in the same run: `make bench`."""
