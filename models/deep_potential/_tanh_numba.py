"""The hyperbolic tangent in plain arithmetic, so that a compiled loop works on a register of numbers at a time."""

from functools import partial
from math import factorial, log

import numpy as np

from ekfcore.compiling.jit import inlined

__all__ = ["tanh"]

_LARGEST = 20.0  # where tanh has long been rounded to 1
_ROUND = 1.5 * 2.0**52  # a number that is added leaves its nearest integer in the lowest bits
_PER_LN2, _LN2 = 1 / log(2), float.fromhex("0x1.62e42fefa0000p-1")  # ln 2 without its last bits: n ln 2 is exact
_LN2_REST = float.fromhex("0x1.cf79abc9e3b3ap-40")
# Taylor's: |r| <= (ln 2) / 2, where the first term left out is below a rounding.
_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12, _C13 = (1 / factorial(k) for k in range(2, 14))


@partial(inlined, reorder=False)
def tanh(x):  # type: ignore[no-untyped-def]
    """Return tanh(x) = e / (e + 2), where e = exp(2 |x|) - 1 = 2^n exp(r) - 1, with the sign of x; NaN stays NaN."""
    bits = _bits(x)
    magnitude = bits & 0x7FFFFFFFFFFFFFFF
    size = _number(magnitude)
    y = 2 * (_LARGEST if size > _LARGEST else size)
    shifted = y * _PER_LN2 + _ROUND
    n = shifted - _ROUND
    r = (y - n * _LN2) - n * _LN2_REST
    p = _C9 + r * (_C10 + r * (_C11 + r * (_C12 + r * _C13)))
    p = _C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * (_C7 + r * (_C8 + r * p))))))
    power = _number((_bits(shifted) + 1023) << 52)  # 2^n
    e = power * (r + r * (r * p)) + (power - 1)
    return _number(_bits(e / (e + 2)) | (bits ^ magnitude))


@partial(inlined, reorder=False)
def _bits(x):  # type: ignore[no-untyped-def]
    return np.float64(x).view(np.int64)


@partial(inlined, reorder=False)
def _number(bits):  # type: ignore[no-untyped-def]
    return np.int64(bits).view(np.float64)
