"""Claims that texts about recurrent networks make, as experiments on data that they make themselves.

Each module has a function `run` that trains small networks and returns an `Outcome`: a table, what pictures
are drawn from, and for each claim whether the run's own numbers bear it out. Nothing is drawn or printed
here.
"""
