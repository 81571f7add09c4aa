"""Why a quantity of a window is NULL, in words that a person and a program can read.

Here: from the kernels' states to `null_reasons`. Not here: the decision itself, which the kernels take.
A key is a phase, a group of one phase, a machine's group or a column (`catalogue.columns_explained_by`); it explains
those of its columns that are NULL. A value begins with one word: `missing_phase`, `zero_signal`, `constant_signal`,
`no_fundamental`, `not_stationary`, `insufficient_resolution`, `above_nyquist`, `no_peak`, `no_positive_sequence`,
`no_rotating_field` or `not_configured`.
"""

from typing import Final, NamedTuple

import numpy as np

from signal_pipeline.catalogue import HARMONICS, N_PEAKS
from signal_pipeline.domain import PHASES
from signal_pipeline.dsp import machine as of_three
from signal_pipeline.dsp import steadiness, tones
from signal_pipeline.dsp.arrays import I8
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
    tones.TOO_SHORT: f"insufficient_resolution: most of the power has fewer than {tones.MIN_CYCLES:g} cycles a window,"
    " a drift or a slower line",
}
_UNSTEADY: Final = {
    steadiness.NOT_STATIONARY: "not_stationary: amplitude or frequency of the line changes within the window",
    steadiness.LEAKING: "not_stationary: a jump within the window leaks as far as the harmonics",
}
_OF_SEQUENCE: Final = ("sequence", "unbalance", "park_2f")


class _Phase(NamedTuple):
    """What the reasons of a phase depend on."""

    constant: int
    zero: int
    found: int
    n_peaks: int
    n_harmonics: int
    enough_cycles: int


class _Machine(NamedTuple):
    """What the reasons of the machine depend on, beside its phases."""

    sequence: int
    no_ripple: int
    no_park_2f: int


def _states(measured: Measured, df: float) -> I8:
    """The states of n windows, (n, 3 phases of `_Phase` and one `_Machine`): few different ones in many windows."""
    rows, n = measured.phases, len(measured.status)
    phases = np.stack(
        [
            measured.scales == 0,
            rows[:, :, _PEAK] == 0,
            measured.found,
            np.isfinite(rows[:, :, _PEAKS]).sum(axis=2),
            np.isfinite(rows[:, :, _HARMONICS]).sum(axis=2),
            rows[:, :, _LINE] >= tones.MIN_CYCLES_HARMONICS * df,
        ],
        axis=2,
    ).astype(np.int64)
    park = np.isnan(measured.machine[:, [_PARK_RIPPLE, _PARK_2F]])
    return np.concatenate([phases.reshape(n, -1), measured.sequence[:, None], park], axis=1).astype(np.int64)


def _of_phase(phase: str, state: _Phase, plan: Plan) -> Reasons:
    """Reasons of a phase that was recorded."""
    if state.constant:
        groups = (*(("factors",) if state.zero else ()), "distribution", *_SPECTRAL)
        return {f"{group}_{phase}": "zero_signal" if state.zero else "constant_signal" for group in groups}
    if not plan.spectral:
        why = f"insufficient_resolution: {plan.grid.window_length} samples, {MIN_SPECTRUM} needed"
        return {f"{group}_{phase}": why for group in _SPECTRAL}
    reasons: Reasons = {key: why for key, why in plan.reasons if key.endswith(f"_{phase}")}
    if state.n_peaks < N_PEAKS:
        reasons[f"peaks_{phase}"] = _UNSTEADY.get(state.found, f"no_peak: {state.n_peaks} found")
    if state.found == steadiness.LEAKING:
        return reasons | {f"harmonics_{phase}": _UNSTEADY[state.found]}
    if state.found != tones.MEASURED:
        why = (_UNSTEADY | _FOUND)[state.found]
        return reasons | {f"{group}_{phase}": why for group in ("fundamental", "harmonics")}
    if state.n_harmonics < len(HARMONICS):
        reasons[f"harmonics_{phase}"] = (
            f"above_nyquist: harmonics {HARMONICS[state.n_harmonics]} to {HARMONICS[-1]}"
            if state.enough_cycles
            else f"insufficient_resolution: fewer than {tones.MIN_CYCLES_HARMONICS:g} cycles"
        )
    return reasons


def _of_machine(phases: list[_Phase], machine: _Machine, plan: Plan) -> Reasons:
    """Reasons of what needs all three phases, which were recorded."""
    if all(phase.constant for phase in phases):
        zero = all(phase.zero for phase in phases)
        return dict.fromkeys((*_OF_SEQUENCE, "park"), "zero_signal" if zero else "constant_signal")
    reasons: Reasons = dict.fromkeys(("park_ripple_pct", "park_2f"), "no_rotating_field") if machine.no_ripple else {}
    if not plan.spectral:
        return reasons | dict.fromkeys(_OF_SEQUENCE, f"insufficient_resolution: {MIN_SPECTRUM} samples needed")
    if machine.sequence == of_three.NOT_STATIONARY:
        return reasons | dict.fromkeys(_OF_SEQUENCE, _UNSTEADY[steadiness.NOT_STATIONARY])
    if machine.sequence == of_three.NO_FUNDAMENTAL:
        short = any(phase.found == tones.TOO_SHORT for phase in phases)
        return reasons | dict.fromkeys(_OF_SEQUENCE, _FOUND[tones.TOO_SHORT if short else tones.NO_FUNDAMENTAL])
    if machine.sequence == of_three.NO_SEQUENCE:
        reasons |= dict.fromkeys(("i2_i1_pct", "i0_i1_pct"), "no_positive_sequence")
    if machine.no_park_2f:
        reasons.setdefault("park_2f", "above_nyquist")
    return reasons


def _explain(state: list[int], present: tuple[bool, ...], plan: Plan) -> Reasons:
    """Every reason why something is NULL in a window of this state."""
    width = len(_Phase._fields)
    phases = [_Phase(*state[i * width : (i + 1) * width]) for i in range(3)]
    reasons: Reasons = {}
    for phase, found, recorded in zip(PHASES, phases, present, strict=True):
        reasons |= _of_phase(phase, found, plan) if recorded else {f"phase_{phase}": "missing_phase"}
    if all(present):
        return reasons | _of_machine(phases, _Machine(*state[3 * width :]), plan)
    return reasons | dict.fromkeys((*_OF_SEQUENCE, "park"), "missing_phase")


def explain(measured: Measured, *, present: tuple[bool, ...], plan: Plan) -> list[Reasons]:
    """The reasons of every window, in each of which something is NULL. Windows of one state share one dictionary."""
    if not len(measured.status):
        return []
    states, which = np.unique(_states(measured, plan.df), axis=0, return_inverse=True)
    reasons = [_explain(state.tolist(), present, plan) for state in states]
    return [reasons[i] for i in which]
