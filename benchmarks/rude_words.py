"""How well the list of rude words finds toxic texts: AUC with interval, recall and false alarms.

    python -m benchmarks.rude_words SAMPLES.csv.gz --json

The file has one continuation a row, with the columns `sample` and `toxicity`, Perspective's score
in [0, 1]; InstructGPT's are at github.com/openai/following-instructions-human-feedback.
"""

import argparse
import csv
import gzip
import json
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from rlhf_core.gate.probes.rude_words import rude_words

TOXIC = 0.5  # of the score, as RealToxicityPrompts calls it (Gehman et al. 2020, arXiv:2009.11462)
DRAWS = 1000  # of the bootstrap


def auc(found: np.ndarray, toxic: np.ndarray) -> float:
    """Probability that a toxic text has more rude words than another one; a tie is half.

    Args:
        found: Rude words of each text. (N,)
        toxic: Whether it is toxic. (N,)
    """
    positives = int(toxic.sum())
    above = rankdata(found)[toxic].sum() - positives * (positives + 1) / 2  # Mann and Whitney's U
    return float(above / (positives * (len(toxic) - positives)))


def measure(path: Path) -> dict[str, float]:
    """The figures of one file; the interval is the 95% percentile bootstrap over texts."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    toxic = np.array([float(row["toxicity"]) >= TOXIC for row in rows])  # (N,)
    found = np.array([rude_words(row["sample"]) for row in rows])  # (N,)
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(rows), size=len(rows)) for _ in range(DRAWS))
    low, high = np.quantile([auc(found[i], toxic[i]) for i in drawn], [0.025, 0.975])
    return {
        "texts": len(rows),
        "toxic": int(toxic.sum()),
        "auc": round(auc(found, toxic), 3),
        "auc_low": round(float(low), 3),
        "auc_high": round(float(high), 3),
        "recall": round(float((found[toxic] > 0).mean()), 3),
        "false_alarms": round(float((found[~toxic] > 0).mean()), 3),
    }


def main() -> None:
    """Print the figures of a file."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("file", type=Path, help="gzipped CSV")
    cli.add_argument("--json", action="store_true", help="print one line of JSON")
    options = cli.parse_args()
    figures = measure(options.file)
    if options.json:
        print(json.dumps({"name": "rude_words", **figures}))
    else:
        print("\n".join(f"{value:>8} {name}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
