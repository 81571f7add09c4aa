"""The colours of everything that is drawn, pictures and report alike: told apart by colour-blind people, too.

In the manner of Okabe and Ito (2008, Color universal design), the blue darker, because their green and blue come close
to each other for tritanopes. A test simulates the three kinds of dichromacy.
"""

from typing import Final

PHASE_COLOURS: Final = ("#D55E00", "#00A878", "#1B4F9C")
"""R, S, T: vermilion, green, blue; the same wherever a phase is drawn."""

INK: Final = "#222222"
GRID: Final = "#E6E6E6"
LINE: Final = "#444444"
"""Of a quantity that belongs to the whole machine, such as a score."""

ALARM: Final = "#CC3377"
"""Thresholds, limits and what lies beyond them."""

QUIET: Final = "#9AA5B1"
HIGHLIGHT: Final = "#E69F00"
"""What marks a place: harmonics, sidebands, the line frequency."""
