"""The one catalogue of features: name, unit, meaning, formula and source of everything a window gives.

Made from it: the columns of the `features` table, Dagster's column schema, the page of the docs. Not here: any
computation (that is `dsp`), and no setting. A changed formula raises `FEATURE_CODE_VERSION`; a changed name or a
new feature also needs a migration.

In the formulas x[n] is the window in amperes, z = x - mean(x), X the DFT of z under a periodic Hann window, P[k]
the one-sided power of bin k without the mean (its sum over k is the power of z), f1 the line frequency. The other
letters are explained where they are used, and on the page (`as_markdown`).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from signal_pipeline.domain import PHASES

Scope = Literal["phase", "machine"]

FEATURE_CODE_VERSION: Final = 2
"""Raised whenever the same samples would give other numbers; part of every row's `feature_version`."""

N_BANDS: Final = 5
N_PEAKS: Final = 3
HARMONICS: Final = tuple(range(2, 21))


@dataclass(frozen=True, slots=True)
class Feature:
    """One quantity of a window. `group` is the family that becomes NULL together, and by which reasons name it."""

    name: str
    unit: str
    meaning: str
    formula: str
    source: str
    scope: Scope
    group: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in the table: one for each phase, or one for the machine."""
        return tuple(f"{self.name}_{phase}" for phase in PHASES) if self.scope == "phase" else (self.name,)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the features table, for schemas, comments and docs."""

    name: str
    unit: str
    meaning: str
    feature: str
    phase: str | None


_STATISTICS = "elementary statistics, population form"
_CONDITION = "machine condition indicators, as in ISO 13373-2"
_WELCH = "Heinzel, Ruediger, Schilling 2002, Spectrum and spectral density estimation by the DFT"
_SHAPE = "Peeters 2004, A large set of audio features, on power"
_TONE = "Agrež 2002, weighted multipoint interpolated DFT, three points under a Hann window"
_HARMONICS = "IEC 61000-4-7 (10 cycles and more), with the scalloping at the known multiples corrected"
_SEQUENCE = "Fortescue 1918, symmetrical components"
_PARK = "Cardoso and Saraiva 1993, Park's vector; Cruz and Cardoso 2001, extended Park's vector approach"


def _waveform() -> Iterator[Feature]:
    rows = (
        ("rms", "A", "root mean square, mean included", "sqrt(mean(x²))", _STATISTICS, "level"),
        ("mean", "A", "mean, the direct component", "mean(x)", _STATISTICS, "level"),
        ("std", "A", "standard deviation, the alternating rms", "sqrt(mean(z²))", _STATISTICS, "level"),
        ("min", "A", "smallest sample", "min(x)", _STATISTICS, "level"),
        ("max", "A", "largest sample", "max(x)", _STATISTICS, "level"),
        ("peak", "A", "largest magnitude", "max(|x|)", _CONDITION, "level"),
        ("peak_to_peak", "A", "range", "max(x) - min(x)", _CONDITION, "level"),
        ("crest", "1", "crest factor", "peak / rms", _CONDITION, "factors"),
        ("form", "1", "form factor", "rms / mean(|x|)", "IEC 60050, form factor", "factors"),
        ("impulse", "1", "impulse factor", "peak / mean(|x|)", _CONDITION, "factors"),
        (
            "shape",
            "1",
            "form factor of the alternating part, free of offset",
            "std / mean(|z|)",
            _CONDITION,
            "distribution",
        ),
        ("skew", "1", "skewness (biased)", "mean(z³) / std³", "Fisher-Pearson, scipy.stats.skew", "distribution"),
        (
            "kurt",
            "1",
            "excess kurtosis, 0 for Gauss",
            "mean(z⁴) / std⁴ - 3",
            "Fisher, scipy.stats.kurtosis",
            "distribution",
        ),
    )
    for name, unit, meaning, formula, source, group in rows:
        yield Feature(name, unit, meaning, formula, source, "phase", group)


def _spectrum() -> Iterator[Feature]:
    rows = (
        ("dominant_freq_hz", "Hz", "frequency of the strongest bin", "argmax(P) · fs/W", _WELCH),
        ("spectral_centroid_hz", "Hz", "mean frequency, weighted by power", "sum(f·P) / sum(P)", _SHAPE),
        ("spectral_bandwidth_hz", "Hz", "spread about the centroid", "sqrt(sum((f - centroid)²·P) / sum(P))", _SHAPE),
        ("spectral_rolloff_hz", "Hz", "below it lie 85 % of the power", "min f: sum(P up to f) ≥ 0.85 sum(P)", _SHAPE),
        ("spectral_entropy", "1", "0 one bin, 1 flat", "-sum(q·ln q) / ln(bins), q = P / sum(P)", _SHAPE),
        ("spectral_flatness", "1", "0 tonal, 1 flat", "exp(mean(ln P)) / mean(P)", _SHAPE),
        ("total_power", "A²", "power of the alternating part under the window", "sum(P)", _WELCH),
    )
    for name, unit, meaning, formula, source in rows:
        yield Feature(name, unit, meaning, formula, source, "phase", "spectrum")
    for number in range(1, N_BANDS + 1):
        name, meaning = f"band_power_{number}", f"power in band {number} of FEATURE_BANDS_HZ"
        yield Feature(name, "A²", meaning, "sum(P[low ≤ f < high])", _WELCH, "phase", "bands")
    for number in range(1, N_PEAKS + 1):
        rank = f"spectral peak number {number} by power"
        formula = "local maximum of P within 80 dB of the first, interpolated without the skirts of stronger ones"
        yield Feature(f"peak_{number}_freq_hz", "Hz", f"frequency of {rank}", formula, _TONE, "phase", "peaks")
        yield Feature(f"peak_{number}_amplitude", "A", f"amplitude of {rank}", formula, _TONE, "phase", "peaks")


def _tones() -> Iterator[Feature]:
    rows = (
        ("line_freq_hz", "Hz", "line frequency f1, interpolated", "(k + 2(|X₊|-|X₋|)/(|X₋|+2|X₀|+|X₊|)) · fs/W"),
        ("fundamental_amplitude", "A", "amplitude (peak) of the fundamental", "|H1|, H1 fitted at f1 to three bins"),
        ("fundamental_phase_deg", "°", "phase of the cosine at the window's middle, sample W/2", "arg(H1)"),
    )
    for name, unit, meaning, formula in rows:
        yield Feature(name, unit, meaning, formula, _TONE, "phase", "fundamental")
    meaning = "total harmonic distortion, harmonics 2 to 20"
    yield Feature("thd_pct", "%", meaning, "100 · sqrt(|H2|² + … + |H20|²) / |H1|", _HARMONICS, "phase", "harmonics")
    for order in HARMONICS:
        meaning = f"amplitude of harmonic {order} against the fundamental"
        formula = f"100 · |H{order}| / |H1|"
        yield Feature(f"harmonic_{order}_pct", "%", meaning, formula, _HARMONICS, "phase", "harmonics")


def _machine() -> Iterator[Feature]:
    unbalance = "as NEMA MG 1 for voltages: 100 · max||Ik| - I| / I, I the mean of |Ia|, |Ib|, |Ic|"
    rows = (
        ("seq_pos_amplitude", "A", "positive sequence I1, amplitude", "|Ia + a·Ib + a²·Ic| / 3", _SEQUENCE, "sequence"),
        ("seq_neg_amplitude", "A", "negative sequence I2, amplitude", "|Ia + a²·Ib + a·Ic| / 3", _SEQUENCE, "sequence"),
        ("seq_zero_amplitude", "A", "zero sequence I0, amplitude", "|Ia + Ib + Ic| / 3", _SEQUENCE, "sequence"),
        ("i2_i1_pct", "%", "negative against positive sequence", "100 · I2 / I1", _SEQUENCE, "sequence"),
        ("i0_i1_pct", "%", "zero against positive sequence", "100 · I0 / I1", _SEQUENCE, "sequence"),
        ("unbalance_pct", "%", "unbalance of the fundamentals", unbalance, "NEMA MG 1", "unbalance"),
        ("park_mean", "A", "mean modulus of Park's vector", "mean(m), m = sqrt(iD² + iQ²)", _PARK, "park"),
        ("park_ripple_pct", "%", "ripple of the modulus", "100 · std(m) / mean(m)", _PARK, "park"),
        ("park_2f_pct", "%", "modulus at twice line frequency", "100 · |M(2·f1)| / mean(m)", _PARK, "park_2f"),
    )
    for name, unit, meaning, formula, source, group in rows:
        yield Feature(name, unit, meaning, formula, source, "machine", group)


FEATURES: Final[tuple[Feature, ...]] = (*_waveform(), *_spectrum(), *_tones(), *_machine())
COLUMNS: Final[tuple[str, ...]] = tuple(column for feature in FEATURES for column in feature.columns)


def column_info() -> tuple[Column, ...]:
    """Every column in the table's order, with unit and meaning."""
    return tuple(
        Column(name, feature.unit, feature.meaning, feature.name, phase if feature.scope == "phase" else None)
        for feature in FEATURES
        for name, phase in zip(feature.columns, PHASES, strict=False)
    )


def columns_explained_by(key: str) -> tuple[str, ...]:
    """The columns that a key of `null_reasons` speaks of.

    A key is a column (`harmonic_9_pct_a`), a phase (`phase_c`), a group of one phase (`harmonics_a`) or a machine's
    group (`sequence`). Raises `KeyError` for anything else.
    """
    if key in COLUMNS:
        return (key,)
    found = tuple(
        name
        for feature in FEATURES
        for name, phase in zip(feature.columns, PHASES, strict=False)
        if key in ((feature.group,) if feature.scope == "machine" else (f"phase_{phase}", f"{feature.group}_{phase}"))
    )
    if not found:
        raise KeyError(f"{key!r} names no column, phase or group of features")
    return found


def as_markdown() -> str:
    """The page `docs/features.md`: `python -m signal_pipeline.catalogue > docs/features.md` writes it."""
    lines = [
        "# Features",
        "",
        "<!-- written by `python -m signal_pipeline.catalogue`; change the catalogue, not this page -->",
        "",
        f"{len(COLUMNS)} columns of `features`, a row a window: each phase feature stands there three times, as",
        "`name_a`, `name_b` and `name_c` (R, S, T). In the formulas x is the window in amperes, z = x - mean(x), X the",
        "transform of z under a periodic Hann window, P[k] the one-sided power of bin k (the mean has none), f1 the",
        "line frequency, X₋, X₀, X₊ the strongest bin near it (number k) and its neighbours, fs the sample rate, W the",
        "samples of a window. H1, H2, … are the phasors of one phase at f1 and its multiples, Ia, Ib, Ic those of the",
        "three phases at f1, and a = exp(2πi/3) turns by a third. The sums I1 and I2 change places when I2 is larger:",
        "the positive sequence is the one that carries more. Park's vector has the components",
        "iD = √(2/3)·za - (zb + zc)/√6 and iQ = (zb - zc)/√2, m is its modulus, M(f) the amplitude of the tone at f in",
        "m - mean(m) under the Hann window.",
        "Limits, and what is NULL beyond them: `docs/decisions/0011-null-with-a-reason.md`.",
    ]
    for scope, title in (("phase", "Of each phase"), ("machine", "Of the machine")):
        lines += ["", f"## {title}", "", "| feature | unit | meaning | formula | source |", "|---|---|---|---|---|"]
        for feature in FEATURES:
            if feature.scope == scope:
                cells = (f"`{feature.name}`", feature.unit, feature.meaning, f"`{feature.formula}`", feature.source)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
