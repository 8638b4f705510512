"""Turns tables of URLs into shards of images and captions, through img2dataset.

    DATA/urls/table.parquet     the table's usable rows, as img2dataset reads them
    DATA/urls/plan.json         the job: the table, its columns, img2dataset's arguments
    DATA/urls/working/          img2dataset's output; removed when all of it has been moved
    DATA/urls/img2dataset.log   what its last run printed
    DATA/shards/                per shard a tar, a Parquet with one row per URL, and _stats.json

img2dataset runs as a separate process because its dependencies are pinned narrowly and it prints a
lot; it may be in another environment. It writes in place, treats any shard with a stats file as
finished, and reports success even if a worker died, Ray is missing or it was stopped. So it works
in its own folder, and only complete shards are moved: tar, Parquet and stats must agree and cover
the shard's rows.
"""
