"""Fetching from elsewhere: files over HTTP, data set repositories of the hub, tables of URLs."""
