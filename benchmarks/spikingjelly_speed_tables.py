"""What the comparison of speed with SpikingJelly says: who is ahead, and its section of RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["TITLE", "section", "winners"]

TITLE = "SpikingJelly's speed on the same networks"
_INTRODUCTION = """\
Random weights, images of standard normal noise, the same network on both sides; one image, one
thread, processor time, medians of rounds in which both sides take turns. *SNR*: of the logits against
the float network's. *Same*: images of which the largest logit is the same. For each of snnc's rows the
recipe of SpikingJelly is shown that needs the fewest time-steps for that SNR, with the least such T (T
is doubled, then halved between); *times* is its time over snnc's. Where no recipe reaches it, the best
one at the largest T: then *times* is a lower bound.

To SpikingJelly's advantage: outputs are summed from that step on which suits the judged images best
(its examples leave out first steps by a given number or an estimate), of its two step modes the faster
one counts, a maximum stands before the ReLU in front of it, threshold balancing sees the calibration
images 50 times, and a product of two activations that a recipe refuses is written as products and
means."""
_TRIED = """\
What was tried, in this order; each recipe gets at most the T with which one before it suffices, and is
given up from T = 32 on where the gain of the last doubling, made at each doubling to come, would not
suffice. *Channel-wise*, *rate*: RateCodingRecipe, thresholds at that percentile or at the maximum,
channel-wise with half thresholds at the start."""
_EQUIVALENT = """\
Beside them, recipes that send real numbers and compute all operators in float at every step, so that
one step is the float network, and the float network itself. *SpikeZIP* replaces the quantisers with
which a network was trained; here there are none."""


def winners(entries: Sequence[Mapping[str, Any]], goals: int) -> list[tuple[str, int, bool]]:
    """Return for each goal the recipe, its number of steps, and whether it reaches the goal.

    The fewest steps win; where no recipe reaches it, the best agreement that there was. Nothing at all where
    every recipe refuses the network or answers with no number.
    """
    chosen = []
    for number in range(goals):
        reached = [
            (entry["reached"][number], place)
            for place, entry in enumerate(entries)
            if entry["reached"][number] is not None
        ]
        if reached:
            steps, place = min(reached)
            chosen.append((entries[place]["recipe"], steps, True))
            continue
        rows = [
            (row["decibel"], -int(steps), entry["recipe"])
            for entry in entries
            for steps, row in entry.get("tried", {}).items()
            if row["decibel"] is not None
        ]
        if rows:
            _, steps, recipe = max(rows)
            chosen.append((recipe, -steps, False))
    return chosen


def _milliseconds(result: Mapping[str, Any], runs: str, steps: int) -> float:
    return float(next(row["ms"] for row in result["ms"] if (row["runs"], row["steps"]) == (runs, steps)))


def _tried(result: Mapping[str, Any], recipe: str) -> Mapping[str, Any]:
    return next(entry for entry in result["recipes"] if entry["recipe"] == recipe)["tried"]


def _pairs(name: str, result: Mapping[str, Any]) -> list[str]:
    lines = []
    chosen = winners(result["recipes"], len(result["snnc"]))
    for number, row in enumerate(result["snnc"]):
        ours = _milliseconds(result, "snnc", row["timesteps"])
        cells = [name, f"T = {row['timesteps']}, G = {row['groups']}", f"{row['decibel']:.1f}"]
        cells += [f"{row['same']:.0f} %", f"{ours:.1f}"]
        if not chosen:
            cells += ["none answers", *[""] * 5]
        else:
            recipe, steps, reaches = chosen[number]
            found, theirs = _tried(result, recipe)[str(steps)], _milliseconds(result, recipe, steps)
            cells += [
                recipe,
                str(steps),
                f"{found['decibel']:.1f}",
                f"{found['same']:.0f} %",
                f"{theirs:,.1f}",
            ]
            cells.append(f"{'' if reaches else '> '}{theirs / ours:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _history(name: str, entry: Mapping[str, Any]) -> str:
    if "refused" in entry:
        words = f"refused: `{entry['refused'].replace('|', chr(92) + '|')}`"
    else:
        words = ", ".join(
            f"{int(steps):,}: " + ("no number" if row["decibel"] is None else f"{row['decibel']:.1f}")
            for steps, row in sorted(entry["tried"].items(), key=lambda item: int(item[0]))
        )
    return f"| {name} | {entry['recipe']} | {words} |"


def _floats(name: str, result: Mapping[str, Any]) -> list[str]:
    words = {"onnxruntime": "float, onnxruntime", "float": "float, torch"}
    words |= {entry["recipe"]: f"{entry['recipe']}, T = 1" for entry in result["equivalent"]}
    lines = [
        f"| {name} | {words[row['runs']]} | {row['ms']:.1f} |" for row in result["ms"] if row["runs"] in words
    ]
    lines += [_history(name, entry) for entry in result["equivalent"] if entry["reached"][0] is None]
    return lines


def section(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the section of RESULTS.md from what `spikingjelly_speed.json` holds."""
    lines = [_INTRODUCTION, ""]
    lines.append("| network | snnc | SNR, dB | same | ms | SpikingJelly | T | SNR, dB | same | ms | times |")
    lines.append("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, result in results.items():
        lines += _pairs(name, result)
    lines += ["", _TRIED, "", "| network | recipe | T: SNR, dB |", "|---|---|---|"]
    lines += [_history(name, entry) for name, result in results.items() for entry in result["recipes"]]
    lines += ["", _EQUIVALENT, "", "| network | runs | ms, or T: SNR, dB |", "|---|---|---|"]
    for name, result in results.items():
        lines += _floats(name, result)
    lines.append("")
    for kind in ("machine", "versions"):
        each = (result[kind] for result in results.values())
        found = dict.fromkeys(
            one if isinstance(one, str) else ", ".join(f"{name} {number}" for name, number in one.items())
            for one in each
        )
        lines.append(f"- {kind}: {'; '.join(found)}")
    commands: dict[str, list[str]] = {}
    for name, result in results.items():
        tail = f"--largest {result['largest']} --images {result['images']} --rounds {result['rounds']}"
        commands.setdefault(tail, []).append(name)
    command = "python benchmarks/spikingjelly_speed.py --spikingjelly PYTHON --networks"
    lines += [f"- command: `{command} {' '.join(names)} {tail}`" for tail, names in commands.items()]
    return lines
