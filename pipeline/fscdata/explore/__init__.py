"""Inspect a data set's tables with DuckDB, which reads the Parquet files in place."""

from fscdata.explore.inspection import inspect
from fscdata.explore.query import print_query
from fscdata.explore.views import connect, write_database

__all__ = ["connect", "inspect", "print_query", "write_database"]
