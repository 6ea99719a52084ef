"""DuckDB, ClickHouse (chdb) and SlateDB on the data and queries of the tsbs benchmark. Prints JSON on one line.

Usage: tsbs.py JOB, a JSON file: {"parquet": file in time order, "folder": scratch, "runs": n, "ingest_rows": n,
"batch_rows": n, "queries": [{"name", "duckdb", "clickhouse"}, ..], each text a list of variants}.

Each engine takes the first rows in batches, each batch durable before the next; then the whole file, sorted by
(hostname, ts) where the engine has such an order; then it answers each variant `runs` times after one untimed run.
"""

import json
import os
import statistics
import struct
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq

with open(sys.argv[1]) as file:
    job = json.load(file)
TAGS = ["hostname", "region", "datacenter", "rack", "os", "arch", "team", "service", "service_version", "service_environment"]


def batches(rows, size):
    taken = 0
    for batch in pq.ParquetFile(job["parquet"]).iter_batches(batch_size=size):
        if taken >= rows:
            return
        taken += len(batch)
        yield batch


def timed(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def ingest(write, prepare=lambda batch: batch):
    """Rows per second of writing the first rows batch by batch; `write` makes each durable, `prepare` is not timed."""
    seconds, rows = 0.0, 0
    for batch in batches(job["ingest_rows"], job["batch_rows"]):
        prepared = prepare(batch)
        seconds += timed(lambda: write(prepared))[0]
        rows += len(batch)
    return rows / seconds


def queries(dialect, execute):
    """Milliseconds of each query, the median over its variants' runs, and how many rows came out."""
    answers = {}
    for query in job["queries"]:
        times, rows = [], 0
        for text in query[dialect]:
            rows += execute(text)
            times += [timed(lambda: execute(text))[0] * 1e3 for _ in range(job["runs"])]
        answers[query["name"]] = {"ms": statistics.median(times), "rows": rows}
    return answers


def duckdb_peer():
    import duckdb

    columns = ", ".join(f"{tag} VARCHAR" for tag in TAGS)
    fields = [name for name in pq.ParquetFile(job["parquet"]).schema_arrow.names if name not in TAGS and name != "ts"]
    columns += ", ts TIMESTAMP_MS, " + ", ".join(f"{field} DOUBLE" for field in fields)
    db = duckdb.connect(os.path.join(job["folder"], "duck.db"))
    db.execute("SET threads = 2")
    db.execute(f"CREATE TABLE taken ({columns})")

    def write(batch):
        arriving = pa.Table.from_batches([batch])
        db.execute("INSERT INTO taken SELECT * FROM arriving")

    rate = ingest(write)
    db.execute("DROP TABLE taken")
    load, _ = timed(lambda: db.execute(f"CREATE TABLE cpu AS SELECT * FROM read_parquet('{job['parquet']}') ORDER BY hostname, ts"))
    db.execute("CHECKPOINT")
    names = [column[0] for column in db.execute("PRAGMA database_size").description]
    size = dict(zip(names, db.execute("PRAGMA database_size").fetchone()))
    used = size["block_size"] * size["used_blocks"]
    answers = queries("duckdb", lambda text: db.execute(text).to_arrow_table().num_rows)
    return {"version": duckdb.__version__, "ingest_rows_s": rate, "load_s": load, "bytes": used, "queries": answers}


def clickhouse_peer():
    import chdb
    from chdb import session

    db = session.Session(os.path.join(job["folder"], "clickhouse"))
    names = pq.ParquetFile(job["parquet"]).schema_arrow.names
    kind = lambda name: "LowCardinality(String)" if name in TAGS else "DateTime64(3, 'UTC')" if name == "ts" else "Float64"
    columns = ", ".join(f"{name} {kind(name)}" for name in names)
    durable = "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
    db.query("CREATE DATABASE bench ENGINE = Atomic")
    db.query("USE bench")
    db.query("SET max_threads = 2")
    db.query(f"CREATE TABLE bench.taken ({columns}) ENGINE = MergeTree ORDER BY (hostname, ts) {durable}")
    part = os.path.join(job["folder"], "batch.parquet")
    seconds, rows = 0.0, 0
    for batch in batches(job["ingest_rows"], job["batch_rows"]):
        # Its own time of reading a batch from a file in memory-backed cache is part of it: there is no other way in.
        pq.write_table(pa.Table.from_batches([batch]), part, compression="none")
        seconds += timed(lambda: db.query(f"INSERT INTO bench.taken SELECT * FROM file('{part}', Parquet)"))[0]
        rows += len(batch)
    db.query("DROP TABLE bench.taken SYNC")
    db.query(f"CREATE TABLE bench.cpu ({columns}) ENGINE = MergeTree ORDER BY (hostname, ts)")
    load, _ = timed(lambda: db.query(f"INSERT INTO bench.cpu SELECT * FROM file('{job['parquet']}', Parquet)"))
    db.query("OPTIMIZE TABLE bench.cpu FINAL")
    used = int(str(db.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'bench' AND table = 'cpu' AND active", "CSV")).strip())

    def execute(text):
        return pa.ipc.open_stream(db.query(text, "ArrowStream").bytes()).read_all().num_rows

    answers = queries("clickhouse", execute)
    return {"version": chdb.__version__, "ingest_rows_s": rows / seconds, "load_s": load, "bytes": used, "queries": answers}


def slatedb_peer():
    """A key-value store: (hostname, ts) to the row, each batch flushed before the next. It answers no SQL. Making its
    keys and values in Python is not timed."""
    import asyncio
    from importlib.metadata import version

    import slatedb.uniffi as slate

    loop = asyncio.new_event_loop()
    folder = os.path.join(job["folder"], "slate")
    os.makedirs(folder)
    store = slate.ObjectStore.resolve("file:///")
    db = loop.run_until_complete(slate.DbBuilder(folder.strip("/"), store).build())

    def prepare(batch):
        names, columns = batch.schema.names, batch.to_pydict()
        fields = [columns[name] for name in names if name not in TAGS and name != "ts"]
        times = batch.column("ts").cast(pa.int64()).to_pylist()
        group = slate.WriteBatch()
        for row, (host, at) in enumerate(zip(columns["hostname"], times)):
            group.put(host.encode() + struct.pack(">q", at), struct.pack(f"<{len(fields)}d", *(field[row] for field in fields)))
        return group

    async def durable(group):
        await db.write(group)
        await db.flush()

    rate = ingest(lambda group: loop.run_until_complete(durable(group)), prepare)
    loop.run_until_complete(db.shutdown())
    return {"version": version("slatedb"), "ingest_rows_s": rate, "queries": {}}


answers = {}
for name, peer in [("duckdb", duckdb_peer), ("clickhouse", clickhouse_peer), ("slatedb", slatedb_peer)]:
    try:
        answers[name] = peer()
    except Exception as error:  # a peer that is not installed, or has changed, is left out and says so
        answers[name] = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(answers))
