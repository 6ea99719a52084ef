"""delta-rs and Lance: open a table of N files, and append one small file to it. Prints JSON on one line.

Usage: manifest.py FOLDER N
The tables are made of one real file that is named N times, as metadata only: neither peer reads data to open or append.
"""

import json
import os
import statistics
import sys
import time

import deltalake
import lance
import pyarrow as pa
import pyarrow.parquet as pq

folder, n = sys.argv[1], int(sys.argv[2])
batch = pa.table({"host": ["a"], "ts": [1], "v": [1.0]})
RUNS = 3


def timed(work):
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def delta():
    path = os.path.join(folder, "delta")
    deltalake.write_deltalake(path, batch)
    first = next(name for name in os.listdir(path) if name.endswith(".parquet"))
    size = os.path.getsize(os.path.join(path, first))
    stats = json.dumps({"numRecords": 1, "minValues": {"host": "a", "ts": 1}, "maxValues": {"host": "a", "ts": 1}, "nullCount": {"host": 0, "ts": 0}})
    with open(os.path.join(path, "_delta_log", f"{1:020}.json"), "w") as log:
        for i in range(n - 1):
            add = {"path": f"part-{i:09}.parquet", "size": size, "partitionValues": {}, "modificationTime": 1700000000000, "dataChange": True, "stats": stats}
            log.write(json.dumps({"add": add}) + "\n")
    deltalake.DeltaTable(path).create_checkpoint()
    assert len(deltalake.DeltaTable(path).file_uris()) == n
    opened = timed(lambda: deltalake.DeltaTable(path))
    return opened, timed(lambda: deltalake.write_deltalake(path, batch, mode="append"))


def lance_():
    path = os.path.join(folder, "lance")
    dataset = lance.write_dataset(batch, path)
    one = dataset.get_fragments()[0].metadata
    text = one.to_json()
    fragments = []
    for i in range(n):
        fragment = json.loads(json.dumps(text))
        fragment["id"] = i
        fragments.append(lance.FragmentMetadata.from_json(json.dumps(fragment)))
    operation = lance.LanceOperation.Overwrite(dataset.schema, fragments)
    lance.LanceDataset.commit(path, operation, read_version=dataset.version)
    assert len(lance.dataset(path).get_fragments()) == n
    opened = timed(lambda: lance.dataset(path))
    return opened, timed(lambda: lance.write_dataset(batch, path, mode="append"))


delta_open, delta_append = delta()
lance_open, lance_append = lance_()
print(json.dumps({"delta_open_ms": delta_open, "delta_append_ms": delta_append, "lance_open_ms": lance_open, "lance_append_ms": lance_append}))
