"""``python -m lstm_numba``: the same program as ``lstm-numba``."""

from __future__ import annotations

from lstm_numba.cli.main import main

if __name__ == "__main__":
    main()
