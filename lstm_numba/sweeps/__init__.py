"""Many trainings with different settings, chosen by Optuna, and what mattered among them.

`reading` reads and checks the file of ranges, without Optuna; `opening` opens the study; `study` shares its
trials among processes; `trial` trains one of them; `report` says what came of all.
"""
