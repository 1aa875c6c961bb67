"""Benchmarks of recurrent layers, CPU and GPU, beside PyTorch and ONNX Runtime.

``lstm-numba bench`` runs them. `cases` defines tasks, shapes and sweeps; `implementations` and `peers` wrap
the backends, this library's and the others, `registry` finds them by name; `correctness` checks results
before anything is timed, `timing` times, `runner` goes through all rows; `results` writes, reads and
compares files, and `report` prints tables.

`device_parity`, `epochs`, `jit_step`, `kill_and_resume`, `launch_overhead`, `many_models`, `profile_layer`,
`profile_training`, `pytorch_epochs`, `small_sequences` and `streams_on_gpu` are stand-alone scripts; `on_gpu`
runs everything that needs a GPU, with the programs in `gpu`. `stand_in` replaces NVIDIA's driver where there
is no GPU: it computes nothing and counts calls.

`ranks` measures a training of several processes, which run `rank_worker`, and `rank_model` says what more of
them would take.

`figures` measures all that the pages quote of a processor (`figure_sections`) and writes the tables of all
pages: of these sections (`figure_tables`), of programs of their own (`stored_tables`), and the README's
(`summary`). `accuracy` runs the published trainings (`accuracy_trainings`), collects their results
(`accuracy_runs`) and has their tables (`accuracy_tables`).

`own_data` measures the estimators on real data sets, beside simple methods (`own_forecasts`) and those of
aeon (`own_classes`); `selection` chooses settings, `own_tables` makes the tables of `markdown` lines.

`cell_pages` writes the parts of `lstm_numba/cells/README.md` that follow from the cells' code and from
committed results; `cell_equations` writes the equations.
"""
