"""Whether samples are a measurement at all, and what is said about them in `meta.validation`.

Here: the checks before any feature, and their summary. Not here: windows that a gap skips (`extract` finds them, the
summary only carries them), motor data, files and their text.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from signal_pipeline.domain import PHASE_NAMES, PHASES
from signal_pipeline.dsp.arrays import F4
from signal_pipeline.dsp.gaps import gap_lengths
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.errors import InsufficientData, ValidationFailed

MIN_FS: Final = 1.0
MAX_FS: Final = 1e8
"""Hz; outside of these a sample rate is a slip of the pen, not an ammeter."""

MAX_CURRENT: Final = 1e15
"""A; far above any current, far below where float32 ends."""

_NAMED: Final = 20  # skipped windows that are named


@dataclass(frozen=True, slots=True)
class PhaseSummary:
    """One phase: `missing` samples in `gaps` runs, the longest of `longest_gap`; range in A, None without samples."""

    present: bool
    missing: int
    gaps: int
    longest_gap: int
    minimum: float | None
    maximum: float | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "present": self.present,
            "missing": self.missing,
            "gaps": self.gaps,
            "longest_gap": self.longest_gap,
            "min": self.minimum,
            "max": self.maximum,
        }


@dataclass(frozen=True, slots=True)
class ValidationSummary:
    """What was found in a signal's samples. `max_gap_samples` is the limit of interpolation, in samples."""

    samples: int
    sample_rate_hz: float
    max_gap_samples: int
    phases: tuple[PhaseSummary, PhaseSummary, PhaseSummary]
    skipped: tuple[tuple[int, str], ...] = ()

    def with_skipped(self, skipped: Mapping[int, str]) -> "ValidationSummary":
        """The same, with the windows that `extract_features` skipped."""
        return replace(self, skipped=tuple(sorted(skipped.items())))

    def as_dict(self) -> dict[str, Any]:
        """For `meta.validation`: JSON types only, no NaN."""
        return {
            "samples": self.samples,
            "sample_rate_hz": self.sample_rate_hz,
            "max_gap_samples": self.max_gap_samples,
            "phases": {name: phase.as_dict() for name, phase in zip(PHASES, self.phases, strict=True)},
            "windows_skipped": len(self.skipped),
            "windows_skipped_first": {str(number): reason for number, reason in self.skipped[:_NAMED]},
        }


def check_sample_rate(fs: float) -> None:
    """Raise `ValidationFailed` unless `fs` is a rate that somebody measures currents with."""
    if not math.isfinite(fs) or fs <= 0:
        raise ValidationFailed(f"sample rate {fs!r} Hz: must be a finite number above 0; give the file's real rate")
    if not MIN_FS <= fs <= MAX_FS:
        raise ValidationFailed(f"sample rate {fs!r} Hz lies outside {MIN_FS:g}..{MAX_FS:g} Hz; is the unit hertz?")


def validate_record(
    phases: F4,
    *,
    fs: float,
    present: tuple[bool, bool, bool],
    record_rows: int,
    grid: WindowGrid,
    max_gap_samples: int,
    whole: bool,
) -> ValidationSummary:
    """Check one stored signal, a whole record or a batch of one.

    `phases` float32 (3, n), amperes, NaN where a sample is missing; `present`, which phases were recorded (the row of
    another is NaN); `record_rows`, rows of the whole file; `whole`, whether `phases` is all of it.

    Raises `ValidationFailed` for a sample rate that is none, a wrong shape, no phase, an infinite or absurd current
    (phase and sample named), and a recorded phase without a sample in the whole record; `InsufficientData` when
    the record is shorter than a window.
    """
    check_sample_rate(fs)
    if phases.ndim != 2 or phases.shape[0] != 3 or phases.dtype != np.float32:
        raise ValidationFailed(f"phases is {phases.dtype} {phases.shape}: float32 (3, samples) is needed")
    if not any(present):
        raise ValidationFailed("no phase was recorded: at least one of R, S, T must have samples")
    summaries = tuple(
        _phase(phases[i], name=f"phase {PHASES[i]} ({PHASE_NAMES[i]})", present=present[i], whole=whole)
        for i in range(3)
    )
    if record_rows < grid.window_length:
        ms = 1000 * grid.window_length / fs
        raise InsufficientData(
            f"the record has {record_rows} samples at {fs:g} Hz, and a window takes {grid.window_length} ({ms:g} ms);"
            " record longer, or lower WINDOW_MS"
        )
    return ValidationSummary(phases.shape[1], float(fs), max_gap_samples, (summaries[0], summaries[1], summaries[2]))


def _phase(samples: F4, *, name: str, present: bool, whole: bool) -> PhaseSummary:
    if not present:
        return PhaseSummary(present=False, missing=samples.size, gaps=0, longest_gap=0, minimum=None, maximum=None)
    if samples.size == 0:
        return PhaseSummary(present=True, missing=0, gaps=0, longest_gap=0, minimum=None, maximum=None)
    low, high = float(np.min(samples)), float(np.max(samples))
    if math.isfinite(low) and math.isfinite(high):
        _check_range(samples, low, high, name=name)
        return PhaseSummary(present=True, missing=0, gaps=0, longest_gap=0, minimum=low, maximum=high)
    return _phase_with_holes(samples, name=name, whole=whole)


def _phase_with_holes(samples: F4, *, name: str, whole: bool) -> PhaseSummary:
    """The slower way, for a phase that holds NaN or infinity."""
    infinite = np.flatnonzero(np.isinf(samples))
    if infinite.size:
        first = int(infinite[0])
        raise ValidationFailed(
            f"{name}, sample {first}: {samples[first]} is no current ({infinite.size} infinite samples in all)"
        )
    lengths = gap_lengths(samples)
    missing = int(lengths.sum())
    if missing == samples.size:
        if whole:
            raise ValidationFailed(
                f"{name}: all {missing} samples are missing; leave the column out if it was not recorded"
            )
        return PhaseSummary(True, missing, lengths.size, missing, None, None)
    low, high = float(np.nanmin(samples)), float(np.nanmax(samples))
    _check_range(samples, low, high, name=name)
    return PhaseSummary(True, missing, lengths.size, int(lengths.max()), low, high)


def _check_range(samples: F4, low: float, high: float, *, name: str) -> None:
    if max(abs(low), abs(high)) > MAX_CURRENT:
        first = int(np.argmax(np.abs(np.nan_to_num(samples)) > MAX_CURRENT))
        raise ValidationFailed(f"{name}, sample {first}: {samples[first]:g} A is no current (limit {MAX_CURRENT:g} A)")
