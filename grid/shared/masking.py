"""Which of a run's environment variables look like secrets: their values are given back to the run's owner alone.

The client writes them into no command line and no text, and the service shows them to nobody else: both by what is said
here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

MASK = "***"
"""What everybody else gets in place of such a value."""

_WORDS = re.compile(
    r"(^|_)(AUTH|AUTHORIZATION|BASICAUTH|BEARER|COOKIES?|CREDS?|DSN|JWT|PASS|PASSCODE|PAT|SSHPASS|WEBHOOK)(_|\d*$)"
    r"|(PASSWD|PASSPHRASES?|CREDENTIALS?|(?<!^)(?<!^OLD)PWD)(_|\d*$)"
    # Wherever they stand; what is known for something else is excepted.
    r"|KEY(?!BOARD|WORD)|TOKEN(?!I[SZ])|SECRET|PASSWORD|CONNECTION_STRING",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
"""An address that names a user and a password."""


def looks_secret(name: str) -> bool:
    """Return whether the value of an environment variable of this name may be a secret.

    Examples
    --------
    >>> [looks_secret(name) for name in ("WANDB_API_KEY", "PGPASSWORD", "apikey", "API_KEY2", "secretValue")]
    [True, True, True, True, True]
    >>> [looks_secret(name) for name in ("KEYFILE", "HF_TOKENPATH", "SECRETVALUE", "passwordHash", "MONKEY")]
    [True, True, True, True, True]
    >>> [looks_secret(name) for name in ("TOKENIZERS_PARALLELISM", "KEYBOARD", "PWD")]
    [False, False, False]
    """
    return _WORDS.search(_CAMEL.sub("_", name)) is not None


def is_secret(name: str, value: str) -> bool:
    """Return whether the value of an environment variable may be a secret, by its name or because a password is in it.

    Examples
    --------
    >>> is_secret("DATABASE_URL", "postgres://me:mellon@host"), is_secret("DATABASE_URL", "postgres://host")
    (True, False)
    """
    return looks_secret(name) or _WITH_PASSWORD.search(value) is not None


def masked(environment: Mapping[str, str], inherited: Collection[str] = ()) -> dict[str, str]:
    """Return a run's environment variables as somebody gets them who is not its owner.

    Parameters
    ----------
    environment
        The variables.
    inherited
        The names of those that were taken from the owner's own environment: none of their values is shown.
    """
    return {name: MASK if name in inherited or is_secret(name, value) else value for name, value in environment.items()}
