"""Definition of a study: pre-training runs, evaluations of their encoders, and the table of the results."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from conmim_lightning.config.signatures import allowed

_NAME = re.compile(r"\w[^/\\:*?\"'<>|$]*")
_ROW_KEYS = ("encoder", "overrides", "evaluations", "seeds", "x")
_COLUMN_KEYS = ("run", "metric")
ENCODER = "encoder"
"""Name that a column gives for the pre-training run of a row."""

RECORD = "study.json"
"""Name of the file that a complete run has in its folder."""


class Run(NamedTuple):
    """A run of ``train``.

    Attributes:
        folder: folder below the study's, as names.
        kind: name of the encoder or of the evaluation.
        words: overrides on the command line, except for folders.
        encoder: folder of the run whose weights an evaluation starts from; None for random initialisation.
        is_encoder: whether it is a pre-training run.
    """

    folder: tuple[str, ...]
    kind: str
    words: tuple[str, ...]
    encoder: tuple[str, ...] | None = None
    is_encoder: bool = False

    @property
    def name(self) -> str:
        """Name to print."""
        return "/".join(self.folder)


class Study:
    """Runs of ``train`` and the table of their results.

    Each row of the table is an encoder, or none, that is evaluated in the same ways as the others. Each column is a
    metric of one of the evaluations. "{seed}" in an override is replaced by the seed, which is set in every run.

    Args:
        name: name of the study's folder.
        title: title of the table.
        encoders: overrides of each pre-training run, by name.
        evaluations: overrides of each downstream run, by name.
        rows: null for a row per encoder, of the same name; or, by name: "encoder", the name of an encoder, or null for
            ``backbone.weights=null``; "overrides" of its evaluations; the "evaluations" and the "seeds" that the row
            has, null for all; "x", a number if the figure is a curve.
        columns: by name: "run", an evaluation or "encoder" for the pre-training run, and "metric" of that run, from 0
            to 1.
        seeds: seeds of the evaluations.
        encoder_seeds: seeds of pre-training, among them the first of ``seeds``; null for all of them. Evaluations with
            another seed start from the encoder of the first seed.
        common: overrides of every run.
        encoder_common: overrides of every pre-training run, before its own.
        evaluation_common: overrides of every evaluation, before its own.
        baseline: row that others are compared with; null for none.
        x_label: label of the curve's axis.
        hours: hours on two CPU cores of each evaluation and, where they differ, each "row/evaluation"; of "encoder"
            and, where they differ, each encoder; null if not known.

    Raises:
        ValueError: a name is unknown or cannot be that of a folder, or there are no seeds.
    """

    def __init__(
        self,
        *,
        name: str,
        title: str,
        encoders: Mapping[str, Sequence[str]],
        evaluations: Mapping[str, Sequence[str]],
        columns: Mapping[str, Mapping[str, str]],
        rows: Mapping[str, Mapping[str, Any] | None] | None = None,
        seeds: Sequence[int] = (0, 1, 2),
        encoder_seeds: Sequence[int] | None = None,
        common: Sequence[str] = (),
        encoder_common: Sequence[str] = (),
        evaluation_common: Sequence[str] = (),
        baseline: str | None = None,
        x_label: str | None = None,
        hours: Mapping[str, float] | None = None,
    ) -> None:
        self.name = name
        self.title = title
        self.encoders = {name: (*common, *encoder_common, *words) for name, words in encoders.items()}
        self.evaluations = {name: (*common, *evaluation_common, *words) for name, words in evaluations.items()}
        given = {name: {"encoder": name} for name in encoders} if rows is None else rows
        self.rows: dict[str, dict[str, Any]] = {name: dict(row or {}) for name, row in given.items()}
        self.columns = {name: dict(column) for name, column in columns.items()}
        self.seeds = tuple(seeds)
        self.encoder_seeds = self.seeds if encoder_seeds is None else tuple(encoder_seeds)
        self.baseline = baseline
        self.x_label = x_label
        self.hours = dict(hours or {})
        self._check_names()
        self._check_rows()
        self._check_columns()

    def runs(self, only: Sequence[str] | None = None) -> list[Run]:
        """Return the runs, encoders before their evaluations, seed by seed.

        Args:
            only: names of rows and encoders; None for all.

        Raises:
            ValueError: a name is unknown.
        """
        for name in only or ():
            _check_known("only", name, (*self.encoders, *self.rows))
        runs: list[Run] = []
        used = [name for name in self.encoders if any(row.get("encoder") == name for row in self.rows.values())]
        for seed in self.seeds:
            if seed in self.encoder_seeds:
                runs += [self._encoder(name, seed) for name in used]
            runs += self._evaluations(seed)
        return [run for run in runs if only is None or run.folder[0] in only]

    def run_of(self, row: str, column: str, seed: int) -> tuple[str, ...] | None:
        """Return the folder of the run that fills a cell of the table for a seed; None if the cell is empty."""
        kind, encoder = self.columns[column]["run"], self.rows[row].get("encoder")
        if kind == ENCODER:
            return (encoder, f"seed{seed}") if encoder and seed in self.encoder_seeds else None
        return (row, kind, f"seed{seed}") if kind in self._evaluated(row, seed) else None

    def _encoder(self, name: str, seed: int) -> Run:
        words = _with_seed(self.encoders[name], seed)
        return Run((name, f"seed{seed}"), name, words, is_encoder=True)

    def _evaluations(self, seed: int) -> Iterator[Run]:
        for row, content in self.rows.items():
            for name in self._evaluated(row, seed):
                words = (*self.evaluations[name], *content.get("overrides", ()))
                encoder = content.get("encoder")
                of = seed if seed in self.encoder_seeds else self.encoder_seeds[0]
                source = (encoder, f"seed{of}") if encoder else None
                yield Run((row, name, f"seed{seed}"), name, _with_seed(words, seed), source)

    def _evaluated(self, row: str, seed: int) -> Sequence[str]:
        chosen, seeds = (self.rows[row].get(key) for key in ("evaluations", "seeds"))
        if seeds is not None and seed not in seeds:
            return ()
        return list(self.evaluations) if chosen is None else chosen

    def _check_names(self) -> None:
        if not self.seeds or not self.encoder_seeds or self.encoder_seeds[0] != self.seeds[0]:
            raise ValueError(
                "study.seeds and study.encoder_seeds need at least one seed and the same first one, got "
                f"{list(self.seeds)} and {list(self.encoder_seeds)}"
            )
        for name in (*self.encoders, *self.evaluations, *self.rows):
            if not _NAME.fullmatch(str(name)):
                raise ValueError(
                    f"study: {name!r} is no name of a folder: it starts with a letter or digit, without /\\:*?\"'<>|$"
                )
        kinds = {
            ENCODER,
            *self.encoders,
            *self.evaluations,
            *(f"{row}/{kind}" for row in self.rows for kind in self.evaluations),
        }
        if unknown := set(self.hours) - kinds:
            raise ValueError(f"study.hours: {sorted(unknown)} is no encoder, no evaluation and no row/evaluation")

    def _check_rows(self) -> None:
        for name, row in self.rows.items():
            _check_keys(f"study.rows.{name}", row, _ROW_KEYS)
            if row.get("encoder") is not None:
                _check_known(f"study.rows.{name}.encoder", row["encoder"], self.encoders)
            for evaluation in row.get("evaluations") or ():
                _check_known(f"study.rows.{name}.evaluations", evaluation, self.evaluations)
        if self.baseline is not None:
            _check_known("study.baseline", self.baseline, self.rows)

    def _check_columns(self) -> None:
        for name, column in self.columns.items():
            _check_keys(f"study.columns.{name}", column, _COLUMN_KEYS)
            if missing := set(_COLUMN_KEYS) - set(column):
                raise ValueError(f"study.columns.{name} needs {', '.join(sorted(missing))}")
            _check_known(f"study.columns.{name}.run", column["run"], (*self.evaluations, ENCODER))


def _with_seed(words: Sequence[str], seed: int) -> tuple[str, ...]:
    return (*(word.replace("{seed}", str(seed)) for word in words), f"seed={seed}")


def _check_keys(where: str, content: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in content:
        _check_known(where, key, keys)


def _check_known(where: str, name: str, names: Any) -> None:
    if name not in names:
        raise ValueError(f"{where}: {name!r} is unknown; {allowed(str(name), names)}")
