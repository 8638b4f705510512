"""Tables of URLs → shards of pictures and captions, through img2dataset.

    DATA/urls/table.parquet     the table's usable rows, as img2dataset is given them
    DATA/urls/plan.json         what was asked for: the table, its columns, img2dataset's arguments
    DATA/urls/working/          what img2dataset writes; removed when all of it is moved
    DATA/urls/img2dataset.log   what it printed last
    DATA/shards/                per shard a tar, a Parquet with a row a URL, and _stats.json

img2dataset writes in place and takes a shard for done that has a stats file, whatever is in it. So
it works in a folder of its own, every shard is checked there, and none is moved before it is whole.
"""

from fscdata.download.urls.download import UrlReport, download_table
from fscdata.download.urls.options import UrlOptions
from fscdata.download.urls.plan import Plan, read_plan

__all__ = ["Plan", "UrlOptions", "UrlReport", "download_table", "read_plan"]
