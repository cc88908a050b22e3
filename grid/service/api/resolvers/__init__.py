"""One file a noun, and each is thin: from arguments to what the service can do, from its result to plain dicts.

What a file binds to the schema stands in its `BINDABLES`; `api/schema.py` lists the files.
"""
