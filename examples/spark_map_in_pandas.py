"""Score a Spark DataFrame of pairs with `mapInPandas`: one model a partition, one thread a task.

Needs `pip install pyspark pandas pyarrow` and Java 17 or later; says so where one is missing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import TYPE_CHECKING

from crossrank import Reranker

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

PAIRS = [
    (0, "what do bees make", "Bees make honey from nectar."),
    (1, "what do bees make", "Cars need petrol."),
    (2, "how do vaccines work", "They train immune cells to recognise a virus."),
    (3, "how do vaccines work", "Stock prices fell on Monday."),
]


def add_scores(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    # Spark starts as many tasks as it has cores, so each has one thread. A frame has up to 10,000 rows
    # (spark.sql.execution.arrow.maxRecordsPerBatch), which are run in batches of tokens, sorted by length.
    with Reranker(threads=1) as reranker:
        for batch in batches:
            pairs = zip(batch["query"].tolist(), batch["document"].tolist(), strict=True)
            yield batch.assign(score=reranker.score_pairs(pairs))


def main() -> None:
    missing = [name for name in ("pyspark", "pandas", "pyarrow") if importlib.util.find_spec(name) is None]
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        missing.append("Java")
    if missing:
        print(f"not run: {', '.join(missing)} not found; pip install pyspark pandas pyarrow, and Java 17 or later")
        return

    from pyspark.sql import SparkSession

    # Spark starts its Python workers with this interpreter, which has crossrank.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = SparkSession.builder.master("local[2]").config("spark.driver.host", "localhost")
    spark = session.config("spark.ui.enabled", "false").getOrCreate()
    pairs = spark.createDataFrame(PAIRS, "key long, query string, document string").repartition(2)
    scored = pairs.mapInPandas(add_scores, "key long, query string, document string, score float")
    for row in scored.orderBy("query", "score", ascending=[True, False]).collect():
        print(f"{row.score:8.4f}  {row.query}: {row.document}")
    spark.stop()


if __name__ == "__main__":
    main()
