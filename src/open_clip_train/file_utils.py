"""Door to ``training.file_utils``. No logic."""

from training.file_utils import check_exists as check_exists
from training.file_utils import pt_load as pt_load
from training.file_utils import pt_save as pt_save
