"""What `petbone selftest` does: small DICOM series with every vendor's habits are written and read."""

from petbone.selftest.cases import CASES, VendorCase
from petbone.selftest.check import Verdict, check_case, check_installation

__all__ = ["CASES", "VendorCase", "Verdict", "check_case", "check_installation"]
