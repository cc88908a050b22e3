"""The file of credentials of a user."""

from __future__ import annotations

import json
from pathlib import Path

from grid.shared.wire import grid_home


def store(url: str, user_id: str = "file", api_key: str = "file-key") -> Path:
    """Write the credentials file of this process's home as `login()` would; return its path."""
    path = grid_home() / "credentials.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"UserID": user_id, "APIKey": api_key, "URL": url}))
    path.chmod(0o600)
    return path
