"""Ranks: processes that MPI started together, which share the batches of one training.

`shares.py`: which rows of a batch a rank has; `launcher.py`, `launch.py`: whether there are ranks, and the
connection to them; `base.py`: what ranks do, and one that is alone; `mpi.py`: over mpi4py; `gradients.py`:
gradients summed while others are computed. mpi4py is imported where a launcher has started several processes
only.
"""
