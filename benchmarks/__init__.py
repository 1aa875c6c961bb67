"""Comparisons on a user's own machine, CPU and GPU: recurrent layers beside PyTorch and ONNX Runtime.

``lstm-numba bench`` is the way in. `plan` says what is compared, `contestants` and `peers` who takes part,
`check` refuses wrong results before anything is timed, `timing` holds the protocol, `rows` drives it all;
`results` keeps, reads and compares what came out, and `report` writes it for people.

`epochs`, `pytorch_epochs`, `kill_and_resume`, `launch_overhead`, `same_loss`, `small_sequences` and
`streams_on_gpu` are scripts that stand alone; `on_gpu` runs all that wants a GPU, with the programs in `gpu`.
`stand_in` is for machines without one: a driver that computes nothing, and counts.
"""
