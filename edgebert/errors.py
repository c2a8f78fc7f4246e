"""Every error that EdgeBERT raises on purpose.

    EdgeBertError
    ├── BundleError    a model folder, bundle or package is missing, damaged or not what it says
    ├── RecipeError    an option, recipe or profile asks for something that does not exist or does not fit; a method
    │                  of another task's models (NoSuchMethodError)
    ├── DataError      a corpus, calibration or evaluation file cannot be used as given
    ├── EngineError    an engine is missing, fails, or gives vectors that differ from the reference
    ├── TargetError    a device profile cannot be met by this bundle
    └── BudgetError    a gate or a budget (quality, disk, memory) is not met

A message says what was wrong, the value got, what is allowed and what to do. The command line prints it as one line
and exits with 1. Anything else that is raised is a bug and shows its trace.
"""


class EdgeBertError(Exception):
    """Base of all errors that a user can cause and cure."""


class BundleError(EdgeBertError):
    """A model folder, bundle or package is missing, damaged or not what its manifest says."""


class RecipeError(EdgeBertError):
    """An option, a recipe or a profile is unknown or does not fit the model."""


class DataError(EdgeBertError):
    """A text, calibration or evaluation file cannot be used as given."""


class EngineError(EdgeBertError):
    """An engine is not installed, fails, or answers wrongly on this machine."""


class TargetError(EdgeBertError):
    """A device profile cannot be met by the bundle."""


class BudgetError(EdgeBertError):
    """A quality gate or a resource budget is not met."""


class NoSuchMethodError(RecipeError, AttributeError):
    """A method of models of another task; `hasattr` is false for it, as for any that is missing."""


class MissingExtraError(EdgeBertError):
    """A command needs packages that the device install leaves out."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed: pip install 'edgebert[{extra}]'"
        )
