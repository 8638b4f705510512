"""fscdata: images and captions in tars → hard-negative captions in Parquet → look at them."""

__version__ = "0.1.0"
