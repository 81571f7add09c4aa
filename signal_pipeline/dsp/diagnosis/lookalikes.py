"""Lines that stand where one of the rotor's could, and are none: harmonics, folded ones, and modulated ones.

Here: which places are taken. Not here: what a line at a free place says (`rotor`, `slip`).
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis.record import Line, Stretch, wander_of

if TYPE_CHECKING:
    from signal_pipeline.dsp.diagnosis.rotor import Rotor
    from signal_pipeline.dsp.diagnosis.spectra import Levels

FOLDED_ORDERS = 80
"""Harmonics up to this order are strong enough to be seen where the sample rate folds them to."""

FOLDED_LOSS_DB = 1.0
"""A line that follows a multiple of the supply's phase within this much of all it has is that harmonic. A line half a
bin beside the place loses as much."""

MIRROR_DB = 10.0
"""Lines as strong as this, less, on the other side of the harmonics are the other half of a modulation."""


class Folded(NamedTuple):
    """Harmonics that stand where a recorder without a filter folds them to."""

    hz: NDArray[np.float64]
    reach_hz: NDArray[np.float64]
    """How far around it nothing else is read: what a wandering supply smears it over, and its skirt."""


def folded_harmonics(recorded: Stretch, line: Line, spectrum: "Levels", *, guard_hz: float, least_dbc: float) -> Folded:
    """The harmonics of `recorded` (not straightened) that fold and are stronger than all else at their place.

    Order 39 of 50.1 Hz stands at 46.1 Hz when a recorder takes 2000 samples a second, and a supply that drifts smears
    it 39 times as wide. Its phase, though, is 39 times that of the supply, in every sample: that shows whether a line
    is such a harmonic or happens to stand there. Lines below `least_dbc` are not believed anyway.
    """
    fs = recorded.fs
    orders = np.arange(math.floor(fs / 2 / line.hz) + 1, FOLDED_ORDERS + 1)
    if not orders.size:
        return Folded(np.empty(0), np.empty(0))
    hz = orders * line.hz
    places = np.abs(hz - fs * np.round(hz / fs))
    phase, wander_hz = wander_of(line, fs)
    smear = orders * wander_hz / 2
    strongest = np.array(
        [spectrum.level_dbc(at, spread + spectrum.resolution_hz) for at, spread in zip(places, smear, strict=True)]
    )
    stands = strongest > least_dbc
    if stands.any():
        own = _levels_of_orders(recorded, line.hz, phase, orders[stands], spectrum)
        stands[stands] = own > strongest[stands] - FOLDED_LOSS_DB
    return Folded(places[stands], guard_hz + smear[stands])


def _levels_of_orders(
    recorded: Stretch, line_hz: float, phase: np.polynomial.Polynomial, orders: NDArray[np.int64], spectrum: "Levels"
) -> NDArray[np.float64]:
    """Levels (dBc, power mean of the phases) of what turns so many times as the supply does, wherever that folds to.

    The line itself is taken out first, or an order whose smear crosses it would have its skirt.
    """
    from signal_pipeline.dsp.diagnosis.spectra import usable, window_of

    samples = usable(recorded.phases)
    window, t = window_of(samples.shape[1]), np.arange(samples.shape[1]) / recorded.fs
    turned = 2 * math.pi * line_hz * t + phase(t)

    def phasors(of: NDArray[np.float64], order: int) -> NDArray[np.complex128]:
        return np.asarray(2 * (of @ (window * np.exp(-1j * order * turned))) / window.sum())

    rest = samples - (phasors(samples, 1)[:, None] * np.exp(1j * turned)).real
    power = [float(np.mean(np.abs(phasors(rest, order)) ** 2)) for order in orders]
    return np.asarray(20 * np.log10(np.sqrt(power) / (spectrum.reference_amplitude or 1.0) + 1e-300))


def clear_of_harmonics(rotor: "Rotor", hz: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frequencies keep their distance from zero, all multiples of the line frequency, and folded harmonics."""
    line = rotor.motor.line_hz
    clear = (np.abs(hz - line * np.round(hz / line)) > rotor.guard_hz) & (hz < rotor.spectrum.freq[-1])
    return np.asarray(clear & clear_of_folded(rotor, hz))


def clear_of_folded(rotor: "Rotor", hz: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frequencies lie outside the reach of every folded harmonic."""
    clear = np.ones(hz.shape, np.bool_)
    for at, reach in zip(*rotor.folded, strict=True):
        clear &= np.abs(hz - at) > reach
    return clear


def modulated_harmonics(
    rotor: "Rotor", lines: NDArray[np.float64], weaker_dbc: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which pairs of `lines` (2, pair), the weaker one of `weaker_dbc`, are mirrored by another on the far side.

    Slot harmonics stand on one side of the harmonics they are near: 12 * (1 - slip) -+ 1 below the 11th and the 13th.
    A load that pulsates writes on both sides of each.
    """
    line, spectrum = rotor.motor.line_hz, rotor.spectrum
    mirrored = np.abs(2 * line * np.round(lines / line) - lines)
    return np.asarray(np.interp(mirrored, spectrum.freq, spectrum.dbc).min(axis=0) > weaker_dbc - MIRROR_DB)
