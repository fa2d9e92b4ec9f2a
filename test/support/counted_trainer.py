"""The trainer's command on the simulated npu, with its operators counted by the shapes they meet.

Started as ``python counted_trainer.py FLAGS`` in place of ``python -m training.main FLAGS``; the counts are written as
JSON to the file that ``COUNTS_FILE`` names. What a data thread does is not counted.
"""

import json
import os
from pathlib import Path

from training import main
from training.device import import_torch

if __name__ == "__main__":
    import_torch()
    from torch_npu.simulator import op_census

    with op_census(shapes=True) as counts:
        status = main.main()
    Path(os.environ["COUNTS_FILE"]).write_text(json.dumps(counts), encoding="utf-8")
    main._leave(status)
