"""Published pairs of measurements."""

import numpy as np


def _table(text: str, shape: tuple[int, int]) -> np.ndarray:
    return np.array(text.split(), float).reshape(shape)


_PEAK_FLOW = _table(
    """
    494 490 512 525
    395 397 430 415
    516 512 520 508
    434 401 428 444
    476 470 500 500
    557 611 600 625
    413 415 364 460
    442 431 380 390
    650 638 658 642
    433 429 445 432
    417 420 432 420
    656 633 626 605
    267 275 260 227
    478 492 477 467
    178 165 259 268
    423 372 350 370
    427 421 451 443
    """,
    (17, 4),
)
WRIGHT, MINI = _PEAK_FLOW[:, :2], _PEAK_FLOW[:, 2:]
"""Peak flow of 17 subjects, l/min, twice by each of two meters: Bland and Altman, Lancet 327, 1986, 307."""

GIAVARINA = _table(
    """
    1 5 10 20 50 40 50 60 70 80 90 100 150 200 250
    300 350 400 450 500 550 600 650 700 750 800 850 900 950 1000
    8 16 30 24 39 54 40 68 72 62 122 80 181 259 275
    380 320 434 479 587 626 648 738 766 793 851 871 957 1001 960
    """,
    (2, -1),
)
"""Two methods, made up: Giavarina, Biochem Med 25, 2015, 141, table 1."""

REPS = _table(
    """
    7.83 7.42 7.89 7.12 6.16 7.26 6.71 4.75 5.24
    4.86 4.78 6.05 5.42 4.21 3.61 3.72 3.87 3.92
    6.57 5.62 6.9 6.57 4.06 4.29 4.26 4.71 5.5
    5.08 5.02 6.01 5.67 4.14 4.2 4.61 4.68 5.04
    """,
    (2, -1),
)
"""``reps`` of the R package SimplyAgree (arcaldwell49/SimplyAgree): the pairs of which none is missing."""

NCSS = _table(
    """
    69.3 27.1 61.3 50.8 34.4 92.3 57.5 45.5 33.3 60.9 56.3 49.9 89.7 28.9 96.3
    76.6 83.2 79.4 51.7 32.5 14.2 99.1 76.8 95.4 84.1 48.8 80.4 84.5 61.4 26.9
    69.1 26.7 61.4 51.2 34.7 88.5 57.9 45.1 33.4 60.8 66.5 48.2 88.3 29.3 96.4
    77.1 82.7 78.9 51.6 28.8 12.7 98.6 77.3 94.9 83.3 47 80.9 84.7 61.3 26.7
    """,
    (2, -1),
)
"""PassBablok1 of NCSS, as in the tests of SimplyAgree."""

SHROUT_FLEISS = _table("9 2 5 8  6 1 3 2  8 4 6 8  7 1 2 6  10 5 6 9  6 2 4 7", (6, 4))
"""Six subjects by four judges: Shrout and Fleiss, Psychol Bull 86, 1979, 420, table 2."""

WINE = _table("1 1 3 6 6 7 8 9  2 3 8 4 5 5 7 9  0 3 1 3 5 6 7 9  1 2 4 3 6 2 9 8", (4, 8)).T
"""Eight wines by four judges: ``icc.csv`` of pingouin."""
