"""Cut a LLaMA decoder to its first blocks, as the family nxtp uses it, without loading all of it.

python tools/truncate_decoder.py --source llama-2-7b --out llama-2-7b-6 --layers 6
"""

import argparse
import sys
from collections.abc import Sequence

from open_clip.errors import OpenClipError
from open_clip.families.nxtp.truncate import truncate_decoder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Cut a LLaMA decoder to its first blocks.")
    parser.add_argument(
        "--source", required=True, help="folder with consolidated.00.pth and params.json, or of the Hugging Face hub"
    )
    parser.add_argument("--out", required=True, help="folder to write; empty, or not there")
    parser.add_argument("--layers", required=True, type=int, help="blocks to keep, from the first")
    args = parser.parse_args(arguments)
    try:
        written = truncate_decoder(args.source, args.out, args.layers)
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    print(f"{args.layers} blocks, {written:,} bytes of weights in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
