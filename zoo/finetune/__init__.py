"""Fine-tuning on a user's own data: recognize its format, choose settings, write the recipe, train, report."""

from .options import Options
from .recognize import OwnData, recognize
from .run import finetune

__all__ = ["Options", "OwnData", "finetune", "recognize"]
