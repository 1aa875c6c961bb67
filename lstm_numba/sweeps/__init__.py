"""Many trainings with different settings, chosen by Optuna, and what mattered among them.

`config` reads and checks the file of ranges, without Optuna; `study` shares the trials among processes;
`trial` trains one of them; `report` says what came of all.
"""
