"""Kernels that say how far a window is from a steady tone, and what its line frequency, harmonics and peaks are worth.

Not here: the tones themselves (`tones`), what becomes NULL (`chunks`), its wording (`reasons`). Imported lazily, see
`compiled`.

Two measures. The residual: the share of the power of five bins round the line that is not the fitted tone's, 0 for a
steady one. Whatever changes inside a window leaves some, and where it is large, amplitude and frequency are those of
no moment. The skirt: the level between the first and the second harmonic, where a steady current has nothing. What
changes smoothly has none, however large the residual; a jump has one that falls with the distance from the line and
reaches the harmonics. It is told from noise, which is as high between the sixth and the seventh, and from a line that
the machine has there, which is higher than what is missing at the fundamental.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import F4, F8, I1
from signal_pipeline.dsp.compiled import compiled

STEADY: Final = 0
NOT_STATIONARY: Final = 4
LEAKING: Final = 5
"""States of a phase, beside those of `tones`: no steady tone at all, and one whose leakage reaches its harmonics."""

_MAX_RESIDUAL: Final = 0.05  # a current that is switched on after a quarter of the window, an inverter at 3 Hz/s
_MIN_RESIDUAL: Final = 1e-4  # a hundredth of the amplitude: below it nothing has changed that could leak
_MIN_SKIRT: Final = 1e-3  # of the fundamental's amplitude
_SKIRT_TO_THD: Final = 0.1  # a jump in a pure tone makes a THD of 0.7 times its skirt
_SKIRT_TO_FLOOR: Final = 3.0  # noise has 1, a jump some 10
_SKIRT_TO_RESIDUAL: Final = 0.7  # noise has 1, a jump in ten cycles at most 0.5
_NEAR: Final = 1
_FAR: Final = 6
_MOST_PLACES: Final = 32
_LOBE: Final = 3  # bins on either side of a harmonic that are its own


@compiled
def _bin(packed: F4, k: int) -> complex:
    """Bin k under the Hann window, times 2, as in `tones`."""
    real = packed[2 * k - 1] - np.float64(packed[2 * k - 3] + packed[2 * k + 1]) / 2
    imaginary = packed[2 * k] - np.float64(packed[2 * k - 2] + packed[2 * k + 2]) / 2
    return complex(real, imaginary)


@compiled
def _line(d: float) -> float:
    """h(d), what a tone gives to a bin at distance d."""
    if abs(d) < 1e-6:
        return 1.0
    if abs(abs(d) - 1) < 1e-6:
        return 0.5
    return float(np.sin(np.pi * d) / (np.pi * d * (1 - d * d)))


@compiled
def _residual(packed: F4, p: float, fundamental: complex) -> float:
    """Share of the power of the five bins round p that is not the tone's."""
    k = int(np.round(p))
    rest = total = 0.0
    for j in range(k - 2, k + 3):
        value = _bin(packed, j)
        expected = fundamental * _line(j - p)
        off = value - (expected if j % 2 == 0 else -expected)
        rest += off.real * off.real + off.imag * off.imag
        total += value.real * value.real + value.imag * value.imag
    return float(rest / total)


@compiled
def _between(packed: F4, p: float, fundamental: complex, order: int, places: F8) -> float:
    """Median power of the bins from a harmonic to the next, without the fundamental's steady skirt; -1 for no bins."""
    low, high = int(np.round(order * p)) + _LOBE, int(np.round((order + 1) * p)) - _LOBE
    if low > high or 2 * (high + 1) >= packed.shape[0]:
        return -1.0
    scaled = fundamental * (np.sin(np.pi * p) / np.pi)
    step = (high - low) // _MOST_PLACES + 1
    count = 0
    for j in range(low, high + 1, step):
        near, far = j - p, j + p
        leak = scaled.conjugate() / (far * (1 - far * far)) - scaled / (near * (1 - near * near))
        off = _bin(packed, j) - leak
        places[count] = off.real * off.real + off.imag * off.imag
        count += 1
    return float(np.median(places[:count]))


@compiled
def _leaks(packed: F4, p: float, fundamental: complex, residual: float, distortion: float, places: F8) -> bool:
    """Whether the line's own leakage reaches the harmonics; `distortion` is the THD as read, a share."""
    size = abs(fundamental)
    skirt = _between(packed, p, fundamental, _NEAR, places)
    low, high = size * max(_MIN_SKIRT, _SKIRT_TO_THD * distortion), size * _SKIRT_TO_RESIDUAL * np.sqrt(residual)
    if skirt < low * low or skirt > high * high:
        return False
    floor = -1.0
    order = _FAR
    while floor < 0 and order > _NEAR:
        floor = _between(packed, p, fundamental, order, places)
        order -= 1
    return skirt > _SKIRT_TO_FLOOR * _SKIRT_TO_FLOOR * floor


@compiled
def judge(packed: F4, places: F8, scales: F8, tones: F8, residuals: F8, found: I1) -> None:
    """Say of some phases of some windows whether they are steady.

    In: packed (rows, W) and places (rows,) as `tones.describe` has them; scales (rows,), A; tones (rows, 23), what it
    wrote. Out: residuals (rows,), 0 where there is no line; found (rows,), in which 0, measured, may become
    `NOT_STATIONARY` or `LEAKING`.
    """
    room = np.empty(_MOST_PLACES)
    for row in range(scales.shape[0]):
        residuals[row] = 0
        if found[row] != STEADY:
            continue
        angle = np.radians(tones[row, 2])
        size = tones[row, 1] * packed.shape[1] / (2 * scales[row])
        fundamental = complex(size * np.cos(angle), size * np.sin(angle))
        residuals[row] = _residual(packed[row], places[row], fundamental)
        squares = 0.0
        for harmonic in tones[row, 4:]:
            if not np.isnan(harmonic):
                squares += harmonic * harmonic
        if residuals[row] > _MAX_RESIDUAL:
            found[row] = NOT_STATIONARY
        elif (
            residuals[row] > _MIN_RESIDUAL
            and squares > 0
            and _leaks(packed[row], places[row], fundamental, residuals[row], np.sqrt(squares) / 100, room)
        ):
            found[row] = LEAKING
