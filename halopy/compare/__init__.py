"""Does augmentation help? Classifiers × augmentations on the same folds, with what they cost.

See `halopy.compare.arms.compare_augmentations`.
"""

from halopy.compare.arms import compare_augmentations
from halopy.compare.tables import arms_table, costs_table

__all__ = ["arms_table", "compare_augmentations", "costs_table"]
