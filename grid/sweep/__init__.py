"""What is swept over, as Python objects, for `params`: draws, spacings, choices and flags that are there or not.

>>> from grid import sweep
>>> params = {"lr": sweep.loguniform(1e-5, 1e-1, 3), "batch": [32, 64], "tied": sweep.switch()}
>>> params["lr"]
sweep.loguniform(1e-05, 0.1, 3)

Each object is one form of the grammar that `script_args` has as text, which is its ``str``: nothing is drawn before the
run is started, and then by the service, with the seed of the run. A list of values needs no object, and neither does
Python's own ``range``.
"""

from __future__ import annotations

from grid.sweep.continuous import (
    beta,
    chisquare,
    exponential,
    f,
    gamma,
    gumbel,
    laplace,
    logistic,
    lognormal,
    loguniform,
    noncentral_chisquare,
    noncentral_f,
    normal,
    pareto,
    power,
    rand,
    randn,
    random,
    random_sample,
    ranf,
    rayleigh,
    sample,
    standard_cauchy,
    standard_exponential,
    standard_gamma,
    standard_normal,
    standard_t,
    triangular,
    uniform,
    vonmises,
    wald,
    weibull,
)
from grid.sweep.discrete import (
    binomial,
    choice,
    geometric,
    hypergeometric,
    logseries,
    negative_binomial,
    poisson,
    randint,
    random_integers,
    switch,
    zipf,
)
from grid.sweep.form import Sweep
from grid.sweep.spacings import arange, geomspace, linspace, logspace

__all__ = [
    "Sweep",
    "arange",
    "beta",
    "binomial",
    "chisquare",
    "choice",
    "exponential",
    "f",
    "gamma",
    "geometric",
    "geomspace",
    "gumbel",
    "hypergeometric",
    "laplace",
    "linspace",
    "logistic",
    "lognormal",
    "logseries",
    "logspace",
    "loguniform",
    "negative_binomial",
    "noncentral_chisquare",
    "noncentral_f",
    "normal",
    "pareto",
    "poisson",
    "power",
    "rand",
    "randint",
    "randn",
    "random",
    "random_integers",
    "random_sample",
    "ranf",
    "rayleigh",
    "sample",
    "standard_cauchy",
    "standard_exponential",
    "standard_gamma",
    "standard_normal",
    "standard_t",
    "switch",
    "triangular",
    "uniform",
    "vonmises",
    "wald",
    "weibull",
    "zipf",
]
