"""A patient made of formulas alone, whose truth is known: for the example, the tests and benchmarks.

The skeleton (62 bones), the body round it and the uptake are simple solids with sizes from tables of usual
anatomy; nothing in it comes from a person's images. It is no substitute for patients when a method is judged.
"""

from petbone.phantom.activity import HOTSPOTS, Hotspot, psf_matrix
from petbone.phantom.patient import (
    LARGE,
    SMALL,
    Anatomy,
    Patient,
    PhantomSpec,
    anatomy,
    make_patient,
    spec_of_size,
)
from petbone.phantom.skeleton import Shape

__all__ = [
    "HOTSPOTS",
    "LARGE",
    "SMALL",
    "Anatomy",
    "Hotspot",
    "Patient",
    "PhantomSpec",
    "Shape",
    "anatomy",
    "make_patient",
    "psf_matrix",
    "spec_of_size",
]
