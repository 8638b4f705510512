"""A manifest → a data set's folder: fetched, checked, packed, recorded in `SOURCE.json`.

run.py         download, plan, retry
manifest.py    loads a manifest; a kind is one module in `kinds/`
session.py     one download's folder, files and progress; record.py is its SOURCE.json
fetch.py       one file over HTTP, resumable; hub.py the repositories of the Hugging Face hub
img2dataset/   URL tables
"""
