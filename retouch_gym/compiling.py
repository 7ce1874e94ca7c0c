"""How the kernels are compiled, and three instructions that numba lacks.

Every file of kernels is self-contained (its compiled functions call only functions of the same file):
numba's cache looks at one file when it decides whether a stored kernel is out of date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit, types
from numba.extending import intrinsic

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


def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """Signature and code of `fma`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


def _to_bits(context: Any, value: Any) -> Any:
    """Signature and code of `to_bits`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


def _from_bits(context: Any, bits: Any) -> Any:
    """Signature and code of `from_bits`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


# Annotated as Any: numba's own annotation keeps the typing context as an argument of the call.
fma: Any = intrinsic(_fma)
"""a · b + c in float32, rounded once. OpenCV's bytes depend on it in two places, and on its absence elsewhere."""

to_bits: Any = intrinsic(_to_bits)
"""The bits of a float32 as an int32."""

from_bits: Any = intrinsic(_from_bits)
"""The float32 of some bits."""
