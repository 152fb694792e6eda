"""Train a small Ge2mS-T, the same network in float, or a Spikformer, each for the same processor time.

    python examples/04_ge2mst/train.py --data-set fashion --variant expg --groups 2 --minutes 12 --out runs

The speed is measured first; from it follow the samples that the time allows. ``RESULTS.json`` says how many
they were, and the accuracy on the full test set. A run that was cut goes on when it is started again. For
data of one's own see ``python -m snnc.train --help``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import build
from timed import arguments, train


def main() -> int:
    """Train one variant; return the exit status."""
    parser = arguments(__doc__, ("expg", "float", "lif"), 12)
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--size", choices=("quick", "small"), default="quick")
    options = parser.parse_args()
    code = f"_t{options.timesteps}g{options.groups}" if options.variant == "expg" else ""
    code = f"_t{options.timesteps}" if options.variant == "lif" else code
    name = f"{options.data_set}_ge2mst_{options.variant}{code}".replace("ge2mst_lif", "spikformer_lif")
    done = train(
        options,
        name,
        lambda options, shape: build(
            options.variant,
            shape[0],
            timesteps=options.timesteps,
            groups=options.groups,
            size=options.size,
        ),
        border=2,
        export=options.variant != "lif",
    )
    return 2 if done is None else 0


if __name__ == "__main__":
    raise SystemExit(main())
