"""Why a quantity of a window is NULL, in words that a person and a program can read.

Here: from the kernels' states to `null_reasons`. Not here: the decision itself, which the kernels take.
A key is a phase, a group of one phase, a machine's group or a column (`catalogue.columns_explained_by`); it explains
those of its columns that are NULL. A value begins with one word: `missing_phase`, `zero_signal`, `constant_signal`,
`no_fundamental`, `insufficient_resolution`, `above_nyquist`, `no_peak`, `no_positive_sequence`, `no_rotating_field`
or `not_configured`.
"""

from typing import Final

import numpy as np

from signal_pipeline.catalogue import HARMONICS, N_PEAKS
from signal_pipeline.domain import PHASES
from signal_pipeline.dsp import tones
from signal_pipeline.dsp.chunks import MACHINE_NAMES, PHASE_NAMES, Measured
from signal_pipeline.dsp.plan import MIN_SPECTRUM, Plan

Reasons = dict[str, str]

_SPECTRAL: Final = ("spectrum", "bands", "peaks", "fundamental", "harmonics")
_PEAK: Final = PHASE_NAMES.index("peak")
_PEAKS: Final = [PHASE_NAMES.index(f"peak_{rank}_freq_hz") for rank in range(1, N_PEAKS + 1)]
_HARMONICS: Final = [PHASE_NAMES.index(f"harmonic_{order}_pct") for order in HARMONICS]
_LINE: Final = PHASE_NAMES.index("line_freq_hz")
_PARK_RIPPLE: Final = MACHINE_NAMES.index("park_ripple_pct")
_PARK_2F: Final = MACHINE_NAMES.index("park_2f_pct")
_FOUND: Final = {
    tones.NO_FUNDAMENTAL: "no_fundamental",
    tones.TOO_SHORT: f"insufficient_resolution: fewer than {tones.MIN_CYCLES:g} cycles",
}


def _of_phase(measured: Measured, i: int, phase: int, plan: Plan) -> Reasons:
    """Reasons of a phase that was recorded, in window i."""
    suffix, row = PHASES[phase], measured.phases[i, phase]
    if measured.scales[i, phase] == 0:
        zero = row[_PEAK] == 0
        groups = (*(("factors",) if zero else ()), "distribution", *_SPECTRAL)
        return {f"{group}_{suffix}": "zero_signal" if zero else "constant_signal" for group in groups}
    if not plan.spectral:
        why = f"insufficient_resolution: {plan.grid.window_length} samples, {MIN_SPECTRUM} needed"
        return {f"{group}_{suffix}": why for group in _SPECTRAL}
    reasons: Reasons = {key: why for key, why in plan.reasons if key.endswith(f"_{suffix}")}
    n_peaks = int(np.isfinite(row[_PEAKS]).sum())
    if n_peaks < N_PEAKS:
        reasons[f"peaks_{suffix}"] = f"no_peak: {n_peaks} found"
    if measured.found[i, phase] != tones.MEASURED:
        return reasons | {
            f"{group}_{suffix}": _FOUND[measured.found[i, phase]] for group in ("fundamental", "harmonics")
        }
    n_harmonics = int(np.isfinite(row[_HARMONICS]).sum())
    if n_harmonics < len(HARMONICS):
        reasons[f"harmonics_{suffix}"] = (
            f"above_nyquist: harmonics {HARMONICS[n_harmonics]} to {HARMONICS[-1]}"
            if row[_LINE] / plan.df >= tones.MIN_CYCLES_HARMONICS
            else f"insufficient_resolution: fewer than {tones.MIN_CYCLES_HARMONICS:g} cycles"
        )
    return reasons


def _of_machine(measured: Measured, i: int, plan: Plan) -> Reasons:
    """Reasons of what needs all three phases, which were recorded, in window i."""
    if not measured.scales[i].any():
        why = "zero_signal" if not measured.phases[i, :, _PEAK].any() else "constant_signal"
        groups = ("sequence", "park", "park_2f", *(("unbalance",) if why == "zero_signal" else ()))
        return dict.fromkeys(groups, why)
    reasons: Reasons = {}
    if np.isnan(measured.machine[i, _PARK_RIPPLE]):
        reasons = dict.fromkeys(("park_ripple_pct", "park_2f"), "no_rotating_field")
    if not plan.spectral:
        return reasons | dict.fromkeys(
            ("sequence", "park_2f"), f"insufficient_resolution: {MIN_SPECTRUM} samples needed"
        )
    found = measured.found[i]
    if tones.MEASURED not in found:
        why = _FOUND[tones.TOO_SHORT if tones.TOO_SHORT in found else tones.NO_FUNDAMENTAL]
        return reasons | dict.fromkeys(("sequence", "park_2f"), why)
    if measured.sequence[i] == tones.NO_POSITIVE:
        reasons |= dict.fromkeys(("i2_i1_pct", "i0_i1_pct"), "no_positive_sequence")
    if np.isnan(measured.machine[i, _PARK_2F]):
        reasons.setdefault("park_2f", "above_nyquist")
    return reasons


def explain(measured: Measured, i: int, *, present: tuple[bool, ...], plan: Plan) -> Reasons | None:
    """Every reason why something of window i is NULL; None when nothing is."""
    reasons: Reasons = {}
    for phase, recorded in enumerate(present):
        reasons |= _of_phase(measured, i, phase, plan) if recorded else {f"phase_{PHASES[phase]}": "missing_phase"}
    if all(present):
        reasons |= _of_machine(measured, i, plan)
    else:
        reasons |= dict.fromkeys(("sequence", "unbalance", "park", "park_2f"), "missing_phase")
    return reasons or None
