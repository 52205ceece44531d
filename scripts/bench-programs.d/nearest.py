#!/usr/bin/env python3
"""Nearest neighbours by hnswlib: nearest.py build FILE VECTORS, nearest.py search FILE QUERIES."""

import sys

import hnswlib
import numpy

from marks import mark

DIMENSIONS = 64


def main():
    what, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    random = numpy.random.default_rng(7)
    index = hnswlib.Index(space="l2", dim=DIMENSIONS)
    if what == "build":
        index.init_index(max_elements=count, ef_construction=60, M=16)
        index.add_items(random.random((count, DIMENSIONS), dtype=numpy.float32))
        index.save_index(path)
        return
    index.load_index(path)
    index.set_ef(64)
    index.set_num_threads(1)
    queries = random.random((count, DIMENSIONS), dtype=numpy.float32)
    mark("kernel")
    labels, _ = index.knn_query(queries, k=10)
    mark("end")
    print(f"sum of labels {int(labels.sum())}")


main()
