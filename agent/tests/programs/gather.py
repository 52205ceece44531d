"""Gathers from a table at random, by an index that is read in order, into a result that is written in order.

The table is the only array of its size (96 MiB) and the only one whose accesses no prefetcher foresees: it must come out
on top, as a heap object of that size, although every array here is allocated by the same line of numpy's C code."""

import numpy

CELLS = 12 << 20
PICKS = 2 << 20

generator = numpy.random.Generator(numpy.random.PCG64(1))
table = numpy.arange(CELLS, dtype=numpy.float64)
index = generator.integers(0, CELLS, PICKS)
result = numpy.empty(PICKS)
total = 0.0
for _ in range(40):
    numpy.take(table, index, out=result, mode="clip")
    total += float(result[::4096].sum())
print(int(total))
