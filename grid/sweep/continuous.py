"""Draws that are any numbers: NumPy's distributions by their names there, and `loguniform`."""

from __future__ import annotations

from grid.errors import InvalidArgument
from grid.sweep.form import Sweep, draws, number


def beta(a: float, b: float, samples: int) -> Sweep:
    """Draw from a beta distribution, between 0 and 1.

    Parameters
    ----------
    a, b
        Its shape; both above 0.
    samples
        How many draws.
    """
    return draws("beta", samples, a=a, b=b)


def chisquare(df: float, samples: int) -> Sweep:
    """Draw from a chi-square distribution.

    Parameters
    ----------
    df
        Degrees of freedom, above 0.
    samples
        How many draws.
    """
    return draws("chisquare", samples, df=df)


def exponential(scale: float, samples: int) -> Sweep:
    """Draw from an exponential distribution.

    Parameters
    ----------
    scale
        Its mean, 0 or more.
    samples
        How many draws.
    """
    return draws("exponential", samples, scale=scale)


def f(dfnum: float, dfden: float, samples: int) -> Sweep:
    """Draw from an F distribution.

    Parameters
    ----------
    dfnum, dfden
        Degrees of freedom in numerator and denominator, above 0.
    samples
        How many draws.
    """
    return draws("f", samples, dfnum=dfnum, dfden=dfden)


def gamma(shape: float, scale: float, samples: int) -> Sweep:
    """Draw from a gamma distribution.

    Parameters
    ----------
    shape, scale
        Its shape and its scale, 0 or more.
    samples
        How many draws.
    """
    return draws("gamma", samples, shape=shape, scale=scale)


def gumbel(loc: float, scale: float, samples: int) -> Sweep:
    """Draw from a Gumbel distribution.

    Parameters
    ----------
    loc
        Its mode.
    scale
        Its width, 0 or more.
    samples
        How many draws.
    """
    return draws("gumbel", samples, loc=loc, scale=scale)


def laplace(loc: float, scale: float, samples: int) -> Sweep:
    """Draw from a Laplace distribution.

    Parameters
    ----------
    loc
        Its middle.
    scale
        Its width, 0 or more.
    samples
        How many draws.
    """
    return draws("laplace", samples, loc=loc, scale=scale)


def logistic(loc: float, scale: float, samples: int) -> Sweep:
    """Draw from a logistic distribution.

    Parameters
    ----------
    loc
        Its middle.
    scale
        Its width, 0 or more.
    samples
        How many draws.
    """
    return draws("logistic", samples, loc=loc, scale=scale)


def lognormal(mean: float, sigma: float, samples: int) -> Sweep:
    """Draw numbers whose logarithms are normally distributed.

    Parameters
    ----------
    mean, sigma
        Mean and standard deviation of the logarithms; the latter 0 or more.
    samples
        How many draws.
    """
    return draws("lognormal", samples, mean=mean, sigma=sigma)


def loguniform(a: float, b: float, samples: int) -> Sweep:
    """Draw numbers whose logarithms are even between those of two bounds: each power of 10 is as likely.

    Parameters
    ----------
    a, b
        The bounds, in any order; both above 0.
    samples
        How many draws.

    Examples
    --------
    >>> loguniform(1e-5, 1e-1, 3)
    sweep.loguniform(1e-05, 0.1, 3)
    """
    for parameter, value in (("a", a), ("b", b)):
        if number("loguniform", parameter, value) <= 0:
            msg = f"sweep.loguniform: {parameter} must be above 0, not {value!r}; it is the bound, not its logarithm"
            raise InvalidArgument(msg)
    return draws("loguniform", samples, a=a, b=b)


def noncentral_chisquare(df: float, nonc: float, samples: int) -> Sweep:
    """Draw from a noncentral chi-square distribution.

    Parameters
    ----------
    df
        Degrees of freedom, above 0.
    nonc
        Noncentrality, 0 or more.
    samples
        How many draws.
    """
    return draws("noncentral_chisquare", samples, df=df, nonc=nonc)


def noncentral_f(dfnum: float, dfden: float, nonc: float, samples: int) -> Sweep:
    """Draw from a noncentral F distribution.

    Parameters
    ----------
    dfnum, dfden
        Degrees of freedom in numerator and denominator, above 0.
    nonc
        Noncentrality, 0 or more.
    samples
        How many draws.
    """
    return draws("noncentral_f", samples, dfnum=dfnum, dfden=dfden, nonc=nonc)


def normal(loc: float, scale: float, samples: int) -> Sweep:
    """Draw from a normal distribution.

    Parameters
    ----------
    loc
        Its mean.
    scale
        Its standard deviation, 0 or more.
    samples
        How many draws.
    """
    return draws("normal", samples, loc=loc, scale=scale)


def pareto(a: float, samples: int) -> Sweep:
    """Draw from a Pareto II distribution.

    Parameters
    ----------
    a
        Its shape, above 0.
    samples
        How many draws.
    """
    return draws("pareto", samples, a=a)


def power(a: float, samples: int) -> Sweep:
    """Draw from a power distribution, between 0 and 1.

    Parameters
    ----------
    a
        Its exponent, less 1; above 0.
    samples
        How many draws.
    """
    return draws("power", samples, a=a)


def rand(samples: int) -> Sweep:
    """Draw evenly between 0 and 1.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("rand", samples)


def randn(samples: int) -> Sweep:
    """Draw from the standard normal distribution.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("randn", samples)


def random(samples: int) -> Sweep:
    """Draw evenly between 0 and 1.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("random", samples)


def random_sample(samples: int) -> Sweep:
    """Draw evenly between 0 and 1.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("random_sample", samples)


def ranf(samples: int) -> Sweep:
    """Draw evenly between 0 and 1.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("ranf", samples)


def rayleigh(scale: float, samples: int) -> Sweep:
    """Draw from a Rayleigh distribution.

    Parameters
    ----------
    scale
        Its mode, 0 or more.
    samples
        How many draws.
    """
    return draws("rayleigh", samples, scale=scale)


def sample(samples: int) -> Sweep:
    """Draw evenly between 0 and 1.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("sample", samples)


def standard_cauchy(samples: int) -> Sweep:
    """Draw from the standard Cauchy distribution.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("standard_cauchy", samples)


def standard_exponential(samples: int) -> Sweep:
    """Draw from the exponential distribution of mean 1.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("standard_exponential", samples)


def standard_gamma(shape: float, samples: int) -> Sweep:
    """Draw from a gamma distribution of scale 1.

    Parameters
    ----------
    shape
        Its shape, 0 or more.
    samples
        How many draws.
    """
    return draws("standard_gamma", samples, shape=shape)


def standard_normal(samples: int) -> Sweep:
    """Draw from the standard normal distribution.

    Parameters
    ----------
    samples
        How many draws.
    """
    return draws("standard_normal", samples)


def standard_t(df: float, samples: int) -> Sweep:
    """Draw from Student's t distribution.

    Parameters
    ----------
    df
        Degrees of freedom, above 0.
    samples
        How many draws.
    """
    return draws("standard_t", samples, df=df)


def triangular(left: float, mode: float, right: float, samples: int) -> Sweep:
    """Draw from a triangular distribution.

    Parameters
    ----------
    left, mode, right
        Its lower end, its peak and its upper end, in this order.
    samples
        How many draws.
    """
    return draws("triangular", samples, left=left, mode=mode, right=right)


def uniform(low: float, high: float, samples: int) -> Sweep:
    """Draw evenly between two bounds.

    Parameters
    ----------
    low, high
        The bounds, in any order.
    samples
        How many draws.
    """
    return draws("uniform", samples, low=low, high=high)


def vonmises(mu: float, kappa: float, samples: int) -> Sweep:
    """Draw angles from a von Mises distribution, between -π and π.

    Parameters
    ----------
    mu
        Its mode.
    kappa
        Its concentration, 0 or more.
    samples
        How many draws.
    """
    return draws("vonmises", samples, mu=mu, kappa=kappa)


def wald(mean: float, scale: float, samples: int) -> Sweep:
    """Draw from an inverse Gaussian distribution.

    Parameters
    ----------
    mean, scale
        Its mean and its scale, above 0.
    samples
        How many draws.
    """
    return draws("wald", samples, mean=mean, scale=scale)


def weibull(a: float, samples: int) -> Sweep:
    """Draw from a Weibull distribution of scale 1.

    Parameters
    ----------
    a
        Its shape, 0 or more.
    samples
        How many draws.
    """
    return draws("weibull", samples, a=a)
