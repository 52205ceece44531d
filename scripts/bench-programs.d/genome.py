#!/usr/bin/env python3
"""A made-up genome and reads of it with errors: genome.py DIRECTORY BASES READS."""

import os
import random
import sys

READ_BASES = 3000
ERRORS = 0.05


def main():
    directory, bases, reads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    lots = random.Random(7)
    genome = "".join(lots.choices("ACGT", k=bases))
    with open(os.path.join(directory, "genome.fa"), "w") as file:
        file.write(f">one\n{genome}\n")
    with open(os.path.join(directory, "reads.fa"), "w") as file:
        for number in range(reads):
            start = lots.randrange(bases - READ_BASES)
            read = [lots.choice("ACGT") if lots.random() < ERRORS else base for base in genome[start : start + READ_BASES]]
            file.write(f">read{number}\n{''.join(read)}\n")


main()
