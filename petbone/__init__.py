"""petbone: how much of the skeleton is tumour, from PET/CT, bone by bone."""

__version__ = "0.1.0"
