"Side-by-side measurements, each run by `python -m benchmarks.NAME`"
