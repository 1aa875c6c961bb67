"""Opens the study of a sweep, or begins it, and refuses a file that is not the one it was begun with."""

from __future__ import annotations

import json
import sqlite3
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from lstm_numba.data.file_io import one_line
from lstm_numba.sweeps.config import SweepConfig
from lstm_numba.sweeps.lock import SweepLock
from lstm_numba.sweeps.ranges import SweepError
from lstm_numba.sweeps.study import SQLAlchemyError, Sweep, make_url, optuna, translated

#: Seconds that SQLite waits for another program.
_TIMEOUT = 60.0


def open_sweep(config: SweepConfig, folder: Path, url: str | None = None, begin: bool = True) -> Sweep:
    """Open the study of a configuration, or begin it.

    Parameters
    ----------
    config : SweepConfig
    folder : Path
        For the run folders, and for the database if no other is named.
    url : str, optional
        Of a database, as Optuna's ``RDBStorage`` takes it.
    begin : bool
        If False, there must be a study already.

    Raises
    ------
    SweepError
        The database cannot be opened; the study was begun with other settings; there is none.
    """
    file = _sqlite_file(folder, url)
    if not begin and file is not None and not file.is_file():  # opening it would make it
        raise SweepError(f"{one_line(file, 400)}: does not exist: no study yet; start it without --report")
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    lock = SweepLock(folder, config.name)
    try:
        with lock.alone(), translated(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = _study(config, _storage(folder, url), begin)
            _bind(study, config, folder)
            return Sweep(config, folder, lock, study)
    except BaseException:
        lock.close()
        raise


def _storage(folder: Path, url: str | None) -> optuna.storages.RDBStorage:
    if url is None:
        path = folder / "study.db"
        # Not in the URL, where some characters of a folder's name would mean something else.
        connect = {"creator": lambda: sqlite3.connect(path, timeout=_TIMEOUT, check_same_thread=False)}
        return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs=connect)
    more: dict[str, Any] = {"connect_args": {"timeout": _TIMEOUT}} if url.startswith("sqlite:") else {}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=more)
    except (ValueError, ImportError) as error:
        raise SweepError(f"--storage: cannot be opened: {one_line(_hidden(str(error), url))}") from None


def _sqlite_file(folder: Path, url: str | None) -> Path | None:
    """The file of a database, if it is one."""
    if url is None:
        return folder / "study.db"
    with suppress(SQLAlchemyError, ValueError):
        read = make_url(url)
        if read.get_backend_name() == "sqlite" and read.database:
            return Path(read.database)
    return None


def _hidden(text: str, url: str) -> str:
    """A text without the password that a database's URL may hold."""
    with suppress(SQLAlchemyError, ValueError):
        secret = make_url(url).password
        return text.replace(str(secret), "***") if secret else text
    return text.replace(url, "the URL")


def _study(config: SweepConfig, storage: optuna.storages.RDBStorage, begin: bool) -> optuna.Study:
    if begin:
        return optuna.create_study(
            storage=storage, study_name=config.name, direction=config.direction, load_if_exists=True
        )
    try:
        return optuna.load_study(storage=storage, study_name=config.name)
    except KeyError:
        raise SweepError(f"the database holds no study {config.name!r}; begin it without --report") from None


def _bind(study: optuna.Study, config: SweepConfig, folder: Path) -> None:
    """Refuse a file that is not the one with which the study was begun; the number of trials may change."""
    now = json.loads(json.dumps(config.written))
    kept = study.user_attrs.get("sweep")
    if kept is None or not study.get_trials(deepcopy=False):
        study.set_user_attr("sweep", now)
        return
    where = f"{one_line(config.path, 400)}: "
    advice = (
        f"the trials in {one_line(folder, 400)} would not be comparable; put it back, or name another --out"
    )
    if kept["grid"] != now["grid"]:
        raise SweepError(
            f"{where}sampler: a grid cannot follow another sampler, nor be followed by one; {advice}"
        )
    for key in ("command", "metric"):
        if kept[key] != now[key]:
            raise SweepError(f"{where}{key}: was {kept[key]!r}, is {now[key]!r}; {advice}")
    for table in ("fixed", "ranges"):
        for name in {**kept[table], **now[table]}:
            before, after = (found[table].get(name, "not there") for found in (kept, now))
            if before != after:
                raise SweepError(f"{where}{table}.{name}: was {_toml(before)}, is {_toml(after)}; {advice}")


def _toml(value: Any) -> str:
    """A value nearly as the file has it."""
    if isinstance(value, dict):
        if set(value) == {"choices"}:
            return _toml(value["choices"])
        return f"{{{', '.join(f'{name} = {_toml(one)}' for name, one in value.items())}}}"
    if value == "not there":
        return value
    return json.dumps(value)
