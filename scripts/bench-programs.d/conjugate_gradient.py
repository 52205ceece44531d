#!/usr/bin/env python3
"""SciPy's conjugate gradients on the Poisson equation in a cube: conjugate_gradient.py prepare FILE SIDE, and solve FILE ITERATIONS.

The matrix has seven diagonals, kept in CSR as a general one is: for SIDE = 110 it has 9.2 million entries, 111 MiB beside vectors of 10 MiB."""

import sys

import numpy
from scipy import sparse
from scipy.sparse import linalg

from marks import mark


def poisson(side):
    line = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(side, side))
    one = sparse.identity(side)
    plane = sparse.kronsum(line, line)
    return (sparse.kron(plane, one) + sparse.kron(sparse.identity(side * side), line)).tocsr()


def main():
    what, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "prepare":
        sparse.save_npz(path, poisson(count), compressed=False)
        return
    matrix = sparse.load_npz(path)
    right = numpy.ones(matrix.shape[0])
    mark("kernel")
    found, _ = linalg.cg(matrix, right, maxiter=count, rtol=1e-12)
    mark("end")
    print(f"{matrix.nnz} entries, sum {found.sum():.6e}")


main()
