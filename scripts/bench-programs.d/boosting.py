#!/usr/bin/env python3
"""Training with LightGBM: boosting.py prepare FILE ROWS, boosting.py train FILE TREES."""

import sys

import lightgbm
import numpy

from marks import mark

COLUMNS = 40
SETTINGS = {"objective": "regression", "num_threads": 1, "verbosity": -1, "seed": 7, "deterministic": True, "force_col_wise": True}


def main():
    what, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "prepare":
        random = numpy.random.default_rng(7)
        values = random.random((count, COLUMNS), dtype=numpy.float32)
        target = values[:, :8].sum(axis=1) + numpy.sin(values[:, 8] * 20)
        lightgbm.Dataset(values, target, params=SETTINGS).save_binary(path)
        return
    data = lightgbm.Dataset(path, params=SETTINGS)
    booster = lightgbm.Booster(SETTINGS, data.construct())
    mark("kernel")
    for _ in range(count):
        booster.update()
    mark("end")
    print(f"{booster.num_trees()} trees")


main()
