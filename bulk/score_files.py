"""`score_files`: the scores of all pairs in files, however many, written to another file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from crossrank.bulk.checking import OnError
from crossrank.bulk.dependencies import require_pyarrow
from crossrank.bulk.finishing import OutputFiles
from crossrank.bulk.layout import Layout
from crossrank.bulk.pair_files import find_pair_files, pair_file
from crossrank.bulk.pair_scorer import RerankerScorer
from crossrank.bulk.scoring_job import ScoringJob
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import InvalidInputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.bulk.pair_files import PairFile
    from crossrank.bulk.progress import Progress, Summary


def score_files(
    reranker: ArtifactReranker,
    pairs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    layout: Layout | None = None,
    on_error: OnError = "fail",
    overwrite: bool = False,
    other_machine: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Score the pairs of files and write their rows with the scores to one file.

    Rows keep their order, those of several files one file after another. Memory does not depend on their number.
    Scores are kept beside the output (`OUT.scoring`) as they come, so after an end at any moment, `kill -9` included,
    the same call goes on: no row is lost, repeated or half written. With int8 the output has the very bytes of an
    undisturbed run; float32 scores agree within 1e-5. The output appears whole, under its name, when all is scored;
    `OUT.job.json` beside it says what scored it.

    Args:
        reranker: scores them.
        pairs: a file, a pattern such as 'data/*.parquet', or several of either. The format is that of the name:
            .parquet, .jsonl, .csv, .tsv; the text ones also compressed, with .gz, .bz2, .zst or .lz4 behind.
        out: the file to write, of any of these formats.
        layout: which columns hold the texts and which go to the output; None for `Layout()`.
        on_error: 'fail' refuses rows without a query or document, before anything is scored, and stops at a pair for
            which the model gives no number; 'null' leaves the scores of both empty.
        overwrite: whether another file of this name may be replaced. The finished output of the same job is left alone
            in any case.
        other_machine: whether to go on with scores of another processor or of other versions.
        progress: called with how far it has come, from the calling thread.

    Returns:
        What was done.

    Raises:
        InvalidInputError: the files cannot be read, lack a column, or hold rows that cannot be scored or written (the
            message names the file and the line); or an argument is of another type, or has no effect.
        InferenceError: the model gives no number for a pair; what was scored is kept. Or rows that an earlier call kept
            or finished have no score. Neither with on_error='null'.
        OutputError: the output is there already, another process writes it, the disk is full, or what is kept beside it
            belongs to another job.
        MissingDependencyError: pyarrow is not installed.
        ClosedError: the reranker was closed.

    Example:
        >>> with Reranker() as reranker:  # doctest: +SKIP
        ...     score_files(reranker, "pairs/*.jsonl.gz", "scores.parquet", layout=Layout(keep=("id",)))
    """
    require_pyarrow()
    if on_error not in get_args(OnError):
        raise InvalidInputError(f"on_error={on_error!r}: one of {', '.join(get_args(OnError))} expected")
    layout = Layout() if layout is None else layout
    patterns = [pairs] if isinstance(pairs, (str, Path)) else pairs
    _check_types(patterns, out, layout, progress)
    output_files = OutputFiles(Path(out).absolute())
    target = pair_file(Path(out))
    if not output_files.out.parent.is_dir():
        raise OutputError(f"{output_files.out.parent} is no folder; make it first, or name another output")
    files = find_pair_files(patterns, output_files.all)
    if not files:
        raise InvalidInputError("no files of pairs are given: at least one expected")
    _refuse_unused(layout, files, target)
    if not isinstance(reranker, ArtifactReranker):
        raise InvalidInputError(f"reranker={reranker!r}: a Reranker expected")
    job = ScoringJob(files, output_files, target, layout, on_error=on_error, progress=progress or _nothing)
    return job.run(RerankerScorer(reranker), overwrite=overwrite, other_machine=other_machine)


def _check_types(patterns: object, out: object, layout: object, progress: object) -> None:
    if not isinstance(patterns, Sequence) or not all(isinstance(pattern, (str, Path)) for pattern in patterns):
        raise InvalidInputError(f"pairs={patterns!r}: a path, a pattern, or a list of them expected")
    if not isinstance(out, (str, Path)):
        raise InvalidInputError(f"out={out!r}: the path of a file expected")
    if not isinstance(layout, Layout):
        raise InvalidInputError(f"layout={layout!r}: a Layout expected, or None")
    if progress is not None and not callable(progress):
        raise InvalidInputError(f"progress={progress!r}: a function expected, or None")


def _refuse_unused(layout: Layout, files: Sequence[PairFile], target: PairFile) -> None:
    """Refuse options of CSV and TSV where neither takes part."""
    delimited = [file.form in {"csv", "tsv"} for file in files]
    if layout.header is not None and not any(delimited):
        raise InvalidInputError("header (--header) names columns of CSV and TSV files, and none is read; leave it out")
    if not layout.quotes and not any(delimited) and target.form not in {"csv", "tsv"}:
        raise InvalidInputError(
            "quotes=False (--no-quotes) is of CSV and TSV files, and none is read or written; leave it out"
        )


def _nothing(progress: Progress) -> None:
    """Where nobody asked."""
