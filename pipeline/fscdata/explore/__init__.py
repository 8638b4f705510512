"""Look at a data set's tables: DuckDB over the Parquet files, nothing copied."""

from fscdata.explore.inspection import inspect
from fscdata.explore.query import print_query
from fscdata.explore.views import connect, write_database

__all__ = ["connect", "inspect", "print_query", "write_database"]
