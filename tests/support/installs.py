"""Virtual environments in which projects are installed with `pip install -e`. Nothing is fetched."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import grid

BACKENDS = {"setuptools": "setuptools.build_meta", "hatchling": "hatchling.build"}


def make_environment(folder: Path) -> Path:
    """Make an environment that sees what this one has, Grid among it; return its interpreter."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    ours = [*site.getsitepackages(), Path(grid.__file__).parents[1]]
    (packages_of(folder) / "0-ours.pth").write_text("".join(f"{path}\n" for path in ours))
    return folder / "bin" / "python"


def packages_of(folder: Path) -> Path:
    """Return where an environment has its packages."""
    return folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def make_package(folder: Path, backend: str, package: str, extra: str = "", name: str = "") -> None:
    """Write a project whose only package, at this path in it, says what it is."""
    path = folder / package
    path.mkdir(parents=True)
    (path / "__init__.py").write_text("WORD = 'committed'\n")
    (folder / "pyproject.toml").write_text(
        f"[build-system]\nrequires = ['{backend}']\nbuild-backend = '{BACKENDS[backend]}'\n"
        f"[project]\nname = '{name or path.name}'\nversion = '1'\n{extra}\n"
    )


def install_editable(interpreter: Path, *projects: Path, options: Sequence[str] = ()) -> None:
    """Do what `pip install -e` does, with what is there already."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        interpreter,
        "--disable-pip-version-check",
        "--quiet",
        "install",
    ]
    command += ["--no-index", "--no-build-isolation", "--no-deps", *options]
    for project in projects:
        command += ["--editable", project]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
