"""A package that is installed with `pip install -e`."""

VERSION = "as committed"
