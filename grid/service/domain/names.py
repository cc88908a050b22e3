"""Names for runs whose owner gave none: an adjective, the surname of a scientist, and a number."""

from __future__ import annotations

from collections.abc import Callable

_ADJECTIVES = (
    "ample brave brisk calm candid clever cordial crisp curious daring dapper eager earnest elegant fabled fearless "
    "fluent frugal gentle glad golden graceful hardy hearty humble idle jolly keen kindly lively loyal lucid mellow "
    "merry modest nimble noble patient peculiar placid playful plucky polite prudent quaint quick quiet radiant "
    "serene sincere sleek smart sober spry stalwart steady stoic subtle sunny swift tactful tidy tranquil upbeat "
    "valiant vivid warm wise witty zesty"
).split()

_SURNAMES = (
    "abel ampere archimedes avogadro babbage bayes bell bernoulli bohr boltzmann boole born bose brahe cantor cauchy "
    "cavendish chandrasekhar curie darwin dirac einstein euclid euler fermat fermi feynman fisher franklin galilei "
    "galois gauss germain goedel hamilton heisenberg hilbert hopper hubble huygens hypatia jacobi johnson joule "
    "kepler kolmogorov kovalevskaya lagrange lamarr laplace leibniz liskov lorentz lovelace maxwell mendel mirzakhani "
    "neumann newton noether ohm pascal pasteur pauli planck poincare ramanujan riemann shannon shockley tesla turing "
    "volta wright yalow"
).split()

_NUMBERS = 10_000


def run_name(below: Callable[[int], int]) -> str:
    """Return a name such as ``peculiar-shockley-4136``.

    Parameters
    ----------
    below
        Returns a random whole number from 0 to its argument minus one.
    """
    return f"{_ADJECTIVES[below(len(_ADJECTIVES))]}-{_SURNAMES[below(len(_SURNAMES))]}-{below(_NUMBERS)}"
