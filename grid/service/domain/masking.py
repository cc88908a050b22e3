"""Which of a run's environment variables look like secrets: their values are given back to the run's owner alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

MASK = "***"
"""What everybody else gets in place of such a value."""

_WORDS = re.compile(
    r"(^|_)(AUTH|AUTHORIZATION|COOKIES?|DSN|PASS|PAT)(_|$)"
    r"|(KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASES?|CREDENTIALS?|(?<!^)(?<!^OLD)PWD)(_|$)",
    re.IGNORECASE,
)


def looks_secret(name: str) -> bool:
    """Return whether the value of an environment variable of this name may be a secret.

    Examples
    --------
    >>> [looks_secret(name) for name in ("WANDB_API_KEY", "PGPASSWORD", "apikey")]
    [True, True, True]
    >>> [looks_secret(name) for name in ("TOKENIZERS_PARALLELISM", "KEYBOARD", "PWD")]
    [False, False, False]
    """
    return _WORDS.search(name) is not None


def masked(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a run's environment variables as somebody gets them who is not its owner."""
    return {name: MASK if looks_secret(name) else value for name, value in environment.items()}
