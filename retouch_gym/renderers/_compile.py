"""How the kernels are compiled.

Every file of kernels is self-contained (its compiled functions call only functions of the same file):
numba's cache looks at one file when it decides whether a stored kernel is out of date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

# NaN, infinity and the sign of zero never occur; contraction into fused multiply-adds stays off because
# the published editor's bytes depend on every rounding.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": {"nnan", "ninf", "nsz"},
}


def kernel(function: Function) -> Function:
    """Compile an entry point: serial, without the GIL, cached on disk where a place can be written.

    The function is compiled when it is first called, once per combination of argument types.
    """
    compiled: Function
    try:
        compiled = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba found no directory that it can write its cache to
        compiled = njit(**_OPTIONS)(function)
    return compiled


def inline(function: Function) -> Function:
    """Compile a function that only kernels of the same file call; it is cached inside them."""
    compiled: Function = njit(**_OPTIONS)(function)
    return compiled
