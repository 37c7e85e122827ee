"""Arrange labelled photos for training: data/train, data/validation, data/test, a folder per class.

    python data_separator.py SOURCE [--output data] [--split 80 10 10] [--seed 0]
                             [--copy] [--dry-run] [--download]

The same as `debugcnn separate SOURCE ...`; debugcnn/separator.py says how it works.
"""

import sys

from debugcnn.separator import main

if __name__ == "__main__":
    sys.exit(main())
