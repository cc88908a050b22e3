"""One thin file for each noun: it passes arguments to the domain, and turns results into plain dicts.

Each file lists what it binds to the schema in its `BINDABLES`; `api/schema.py` lists the files.
"""
