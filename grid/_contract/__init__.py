"""What `grid.schema_tools` is made of. Nothing at run time needs it."""
