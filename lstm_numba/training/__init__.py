"""Training: configurations, run folders, checkpoints and the loop that ties them together.

The modules stand apart, because some are light (`config`, `presets`, `reporter`: standard library only) and
some import Numba: `tasks` builds model and data of a configuration, `trainer` drives them, `run` and
`checkpoint` keep them on disk.
"""
