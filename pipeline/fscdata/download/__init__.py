"""Downloads a manifest's data set: fetches, checks, packs, and records it in `SOURCE.json`.

run.py         download, plan, retry
manifest.py    loads a manifest; a kind is one module in `kinds/`
session.py     one download's folder, files and progress; record.py is its SOURCE.json
fetch.py       one file over HTTP, resumable; hub.py does repositories on the Hugging Face hub
img2dataset/   URL tables
"""
