"""Tables of URLs → shards of images and captions, through img2dataset.

    DATA/urls/table.parquet     the table's usable rows, as img2dataset reads them
    DATA/urls/plan.json         the job: the table, its columns, img2dataset's arguments
    DATA/urls/working/          what img2dataset writes; removed when all of it is moved
    DATA/urls/img2dataset.log   what it printed last
    DATA/shards/                for each shard a tar, a Parquet with a row for each URL, _stats.json

img2dataset is a separate process because its dependencies are pinned narrowly and it prints a lot;
it may live in another environment. It writes in place, takes any shard with a stats file for
finished, and reports success when a worker died, when Ray is missing and when it was stopped. So
it works in its own folder, and only complete shards are moved: tar, Parquet and stats must agree
and cover the shard's rows.
"""
