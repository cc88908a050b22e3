"""Which environment variables are handed on: by `login()` to the service that it starts, by a service to its processes.

The process whose `login()` starts the service may have secrets in its environment. What a process was started with can
be read from `/proc` for as long as it lives, and the service lives long: so only what is listed here is handed on.
"""

from __future__ import annotations

from collections.abc import Mapping

_OF_SCRIPTS = frozenset({
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "DYLD_LIBRARY_PATH",
    "GRID_HOME",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "NO_PROXY",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_TF32_OVERRIDE",
    "NVIDIA_VISIBLE_DEVICES",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
})  # fmt: skip

_PREFIXES_OF_SCRIPTS = ("CUDA_", "LC_")

# What a script is not given, but a service needs: to find programs and its own modules as the process did that starts
# it, its settings, and the place for temporary folders, of which each attempt gets one of its own. Not the client's
# settings, one of which is a key.
_OF_SERVICES = frozenset({
    "GRID_CANCEL_GRACE",
    "GRID_FAILPOINTS",
    "GRID_FAILPOINTS_LOG",
    "GRID_FAILPOINTS_SERVICE",
    "GRID_IDLE_TIMEOUT",
    "GRID_LOCAL_CPUS",
    "GRID_LOCAL_GPUS",
    "GRID_LOCAL_MEMORY",
    "GRID_NO_CGROUPS",
    "PATH",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONNOUSERSITE",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSAFEPATH",
    "PYTHONUSERBASE",
    "PYTHONUTF8",
    "PYTHONWARNINGS",
    "TMPDIR",
})  # fmt: skip


def of_script(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what an experiment's script inherits from the service's own environment."""
    return {name: value for name, value in environment.items() if _is_for_scripts(name)}


def of_service(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a service, its keeper, its spawner and its supervisors inherit from the process that starts them.

    It includes what scripts inherit, for they get it from there.
    """
    return {name: value for name, value in environment.items() if name in _OF_SERVICES or _is_for_scripts(name)}


def _is_for_scripts(name: str) -> bool:
    return name in _OF_SCRIPTS or name.startswith(_PREFIXES_OF_SCRIPTS)
