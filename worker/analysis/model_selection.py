"""Which model reads a file that no service received: one for all, or each by its age and view."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from db.model_registry.scope import ActiveModels
from model.inference.predictor import Predictor
from worker.config.settings import Reading

Choose: TypeAlias = Callable[[float | None, str | None], Predictor]


class ReadByNobody(Exception):
    """No active model reads an image of this age and view; the message says so and names those that are active."""


class Readers:
    """Opens the models that files are read with, each when the first file needs it.

    Parameters
    ----------
    active : ActiveModels
        The table; where it is empty, one model reads all.
    first : Path
        Bundle folder of that one model, or of one of the table's: it is opened at once, so that a broken one is
        reported before any file is read.

    Raises
    ------
    BundleInvalid, EngineUnsuitable
        As `model.inference.predictor.Predictor.open` does.
    """

    def __init__(self, reading: Reading, active: ActiveModels, first: Path) -> None:
        self._reading = reading
        self._active = active
        self._first = first
        self._opened: dict[Path, Predictor] = {}
        self._open(first)

    def __call__(self, age_years: float | None, view: str | None) -> Predictor:
        """Return the reader of an image of this age and view.

        Raises
        ------
        ReadByNobody
            If no active model reads it.
        """
        if not self._active:
            return self._open(self._first)
        model = self._active.model_for(age_years, view)
        if model is None:
            raise ReadByNobody(self._active.why_no_model(age_years, view))
        return self._open(Path(model.folder))

    def _open(self, folder: Path) -> Predictor:
        if folder not in self._opened:
            reading = self._reading
            self._opened[folder] = Predictor.open(folder, reading.precision, threads=1, engine=reading.engine)
        return self._opened[folder]
