"""CSV files of a collection: their delimiter, encoding and columns; rows with the line they stand in."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.dataset.samples import DatasetInvalid

DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class TableFile:
    """A CSV file with its delimiter and the names of its columns, as they are written."""

    path: Path
    delimiter: str
    header: tuple[str, ...]

    def rows(self) -> Iterator[tuple[dict[str, str], str]]:
        """Yield the cells of each row by column, without outer blanks, and where the row stands, for messages.

        Empty rows, and empty cells beyond the last column, are passed over.

        Raises
        ------
        DatasetInvalid
            A row has more or fewer cells than there are columns: its values would be read as those of other columns.
        """
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=self.delimiter)
            try:
                next(reader, None)
                for row in reader:
                    cells = [cell.strip() for cell in row]
                    if any(cells):
                        where = f"{self.path}, line {reader.line_num}"
                        yield self._by_column(cells, where), where
            except UnicodeDecodeError as error:
                raise _not_utf8(self.path) from error
            except csv.Error as error:
                raise DatasetInvalid(f"{self.path}, line {reader.line_num} is no CSV: {error}") from error

    def _by_column(self, cells: list[str], where: str) -> dict[str, str]:
        columns = len(self.header)
        surplus, lacking = cells[columns:], [name for name in self.header[len(cells) :] if name.strip()]
        if any(surplus) or lacking:
            raise DatasetInvalid(
                f"{where}: the row has {len(cells)} cells for {columns} columns; put cells that hold "
                f"{self.delimiter!r} into quotation marks"
            )
        padded = [*cells, *[""] * (columns - len(cells))]
        return {name: cell for name, cell in zip(self.header, padded, strict=False) if name.strip()}


def open_table(path: Path, is_known: Callable[[tuple[str, ...]], bool]) -> TableFile:
    """Return a CSV file with the first of `DELIMITERS` under which its columns are known, else with the likeliest.

    Parameters
    ----------
    path
        The file, UTF-8 with or without a byte order mark.
    is_known
        Returns whether columns are those of a table that can be read.

    Raises
    ------
    DatasetInvalid
        The file has another encoding, or a column twice; the message names it.
    """
    try:
        tables = [TableFile(path, delimiter, _header(path, delimiter)) for delimiter in DELIMITERS]
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    known = next((table for table in tables if is_known(table.header)), None)
    table = known or max(tables, key=lambda table: len(table.header))
    names = [name.strip() for name in table.header if name.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if known and twice:
        raise DatasetInvalid(f"{path} has the column {twice[0]} twice; which of them counts cannot be known")
    return table


def _header(path: Path, delimiter: str) -> tuple[str, ...]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            return tuple(next(csv.reader(file, delimiter=delimiter), []))
        except csv.Error:
            return ()


def _not_utf8(path: Path) -> DatasetInvalid:
    return DatasetInvalid(
        f"{path} is not encoded in UTF-8; save it so (spreadsheets: CSV UTF-8), or convert it with iconv"
    )
