"""The phases are told apart by everybody: the three kinds of dichromacy, simulated."""

from itertools import combinations

import numpy as np
import pytest

from signal_pipeline.pictures.colours import PHASE_COLOURS

# What a dichromat sees, on linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
SIMULATION = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "nobody": np.eye(3),
}
JUST_CLEAR = 30
"""CIE76 distance; 2.3 is just noticeable side by side."""


def linear(colour: str) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(to_xyz @ rgb, 1e-6, None) / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SIMULATION)
def test_the_three_phases_are_told_apart(eyes: str) -> None:
    seen = [lab(np.clip(np.asarray(SIMULATION[eyes]) @ linear(colour), 0, 1)) for colour in PHASE_COLOURS]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > JUST_CLEAR
