"""Labels of objects from captions: their nouns, singular, each once.

Taken when data is packed, so that training reads them ready; the same extractor serves where they are not.
"""

from open_clip.families.nxtp.labels.extract import (
    EXTRACTORS,
    RULES,
    LabelExtractor,
    join_labels,
    make_extractor,
    split_labels,
)

__all__ = ["EXTRACTORS", "RULES", "LabelExtractor", "join_labels", "make_extractor", "split_labels"]
