"""What petbone raises when the fault is not its own; the command line turns each into an exit status."""

from __future__ import annotations


class InputError(ValueError):
    """The input cannot be used. One line: which file, what was found, what was expected, what to do."""


class InputErrors(InputError):
    """Several findings at once, a line each."""


class UsageError(ValueError):
    """What was asked for does not exist. One line: what was asked, what there is."""


class ResourceError(RuntimeError):
    """The machine is too small (memory or disk). One line, with the figure; of memory also as a number."""

    def __init__(self, text: str, needed_gb: float | None = None) -> None:
        super().__init__(text)
        self.needed_gb = needed_gb

    def __reduce__(self) -> tuple[type[ResourceError], tuple[str, float | None]]:
        """Sent to other processes with its figure."""
        return type(self), (str(self), self.needed_gb)
