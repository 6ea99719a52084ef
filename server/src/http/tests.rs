//! Tests through a real socket, with a service in memory.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::ipc::reader::StreamReader;
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use tessera_manifest::env;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::doctor::Report;
use crate::service::{AdminService, Output, ProcedureVerb, SqlService, Turn};
use tessera_manifest::id::TableId;
use tessera_metaclient::keys::Switch;
use tessera_metaclient::procedure::{ProcedureId, Record};

/// Answers a few texts; the rest is a syntax error.
#[derive(Default)]
struct Memory {
    begun: Notify,
    release: Notify,
    ended: std::sync::atomic::AtomicUsize,
    next_table_id: AtomicU32,
    switches: Mutex<BTreeSet<Switch>>,
}

fn batch() -> RecordBatch {
    let host = Arc::new(StringArray::from(vec![Some("a"), None]));
    let n = Arc::new(Int64Array::from(vec![1, i64::MAX]));
    let v = Arc::new(Float64Array::from(vec![0.5, f64::NAN]));
    RecordBatch::try_from_iter_with_nullable([("host", host as _, true), ("n", n as _, true), ("v", v as _, true)]).unwrap()
}

fn rows(items: Vec<Result<RecordBatch, ServerError>>) -> Output {
    Output::Rows { schema: batch().schema(), stream: stream::iter(items).boxed() }
}

#[async_trait]
impl SqlService for Memory {
    async fn execute(&self, sql: &str, database: &str, gone: &CancellationToken) -> Result<Vec<Output>, ServerError> {
        let boom = || Err(ServerError::new(Code::StorageUnavailable, "the disk is gone"));
        match sql {
            "db" => Err(ServerError::new(Code::DatabaseNotFound, format!("database '{database}' does not exist"))),
            "rows" => Ok(vec![rows(vec![Ok(batch()), Ok(batch())])]),
            "empty" => Ok(vec![rows(vec![])]),
            "write" => Ok(vec![Output::Affected(3)]),
            "both" => Ok(vec![Output::Affected(3), rows(vec![Ok(batch())])]),
            "fail first" => Ok(vec![rows(vec![boom()])]),
            "fail later" => Ok(vec![rows(vec![Ok(batch()), boom(), Ok(batch())])]),
            "huge" => Ok(vec![rows((0..2_000).map(|_| Ok(batch())).collect())]),
            "panic" => panic!("a defect"),
            "slow" => {
                self.begun.notify_one();
                self.release.notified().await;
                self.ended.fetch_add(1, SeqCst);
                Ok(vec![Output::Affected(1)])
            }
            "endless" => {
                self.begun.notify_one();
                gone.cancelled().await;
                self.ended.fetch_add(1, SeqCst);
                Err(ServerError::new(Code::Cancelled, "nobody waits for it"))
            }
            text if text.starts_with("-- long") => Ok(vec![Output::Affected(text.len() as u64)]),
            other => Err(ServerError::new(Code::InvalidSyntax, format!("'{other}' is not SQL"))),
        }
    }
}

/// Every switch is off until it is turned, and the next table id is 1024 until it is set.
#[async_trait]
impl AdminService for Memory {
    async fn next_table_id(&self) -> Result<TableId, ServerError> {
        Ok(TableId(self.next_table_id.load(SeqCst).max(1024)))
    }

    async fn set_next_table_id(&self, asked: TableId) -> Result<(), ServerError> {
        if !self.is_on(Switch::Recovery).await? {
            return Err(ServerError::new(Code::IllegalState, "recovery mode is off"));
        }
        self.next_table_id.store(asked.0, SeqCst);
        Ok(())
    }

    async fn is_on(&self, switch: Switch) -> Result<bool, ServerError> {
        Ok(self.switches.lock().unwrap().contains(&switch))
    }

    async fn turn(&self, switch: Switch, to: Turn) -> Result<(), ServerError> {
        let mut switches = self.switches.lock().unwrap();
        if to == Turn::On {
            switches.insert(switch)
        } else {
            switches.remove(&switch)
        };
        Ok(())
    }

    async fn procedures(&self, _: Option<ProcedureId>, _: usize) -> Result<Vec<Record>, ServerError> {
        Ok(Vec::new())
    }

    async fn procedure(&self, id: &ProcedureId) -> Result<Record, ServerError> {
        Err(ServerError::new(Code::ProcedureNotFound, format!("procedure '{id}' does not exist")))
    }

    async fn act(&self, id: &ProcedureId, _: ProcedureVerb) -> Result<Record, ServerError> {
        Err(ServerError::new(Code::IllegalState, format!("procedure '{id}' is over")))
    }

    async fn examine(&self) -> Result<Report, ServerError> {
        Err(ServerError::new(Code::StorageUnavailable, "the disk is gone"))
    }
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    service: Arc<Memory>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

struct Reply {
    status: u16,
    content_type: String,
    body: Vec<u8>,
    broken: bool,
}

impl Reply {
    fn json(&self) -> Value {
        let mut value: Value = serde_json::from_slice(&self.body).unwrap();
        let time = value.as_object_mut().unwrap().remove("execution_time_ms");
        assert!(time.is_some_and(|time| time.is_u64()));
        value
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = Arc::new(Memory::default());
        let (stop, stopped) = oneshot::channel();
        let config = Http { body_bytes_max: 4096, json_bytes_max: 20_000, shutdown_ms: 60_000, ..Http::default() };
        let shared: Arc<dyn Service> = service.clone();
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let task = env::spawn(async move {
            serve(listener, shared, Some(metrics), &config, async {
                stopped.await.unwrap();
            })
            .await
        });
        Self { addr, service, stop, task }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Reply {
        let mut request = agent().get(format!("http://{}{path}", self.addr));
        for (name, value) in query {
            request = request.query(name, value);
        }
        env::spawn_blocking(move || reply(request.call())).await.unwrap()
    }

    async fn post(&self, form: &[(&str, &str)]) -> Reply {
        let request = agent().post(format!("http://{}/v1/sql", self.addr));
        let form: Vec<(String, String)> = form.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        env::spawn_blocking(move || reply(request.send_form(form))).await.unwrap()
    }

    /// Posts a body to a path below `/admin`.
    async fn admin(&self, path: &str, body: &'static str) -> Reply {
        let request = agent().post(format!("http://{}/admin/{path}", self.addr));
        env::spawn_blocking(move || reply(request.send(body))).await.unwrap()
    }

    async fn sql(&self, sql: &str, format: &str) -> Reply {
        self.get("/v1/sql", &[("sql", sql), ("format", format)]).await
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().new_agent()
}

fn reply(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let response = match response {
        Ok(response) => response,
        // The connection broke off before the status was sent.
        Err(ureq::Error::Io(_)) => return Reply { status: 0, content_type: String::new(), body: Vec::new(), broken: true },
        Err(other) => panic!("{other}"),
    };
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
    let mut body = Vec::new();
    let broken = response.into_body().into_reader().read_to_end(&mut body).is_err();
    Reply { status, content_type, body, broken }
}

fn records(rows: &Value) -> Value {
    let columns = json!([
        {"name": "host", "data_type": "String"}, {"name": "n", "data_type": "Int64"}, {"name": "v", "data_type": "Float64"}
    ]);
    json!({"records": {"schema": {"column_schemas": columns}, "rows": rows, "total_rows": rows.as_array().unwrap().len()}})
}

#[tokio::test]
async fn json_is_the_default_and_has_an_output_per_statement() {
    let server = Server::start().await;
    let answer = server.get("/v1/sql", &[("sql", "both")]).await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"));
    let rows = json!([["a", 1, 0.5], [null, i64::MAX, null]]);
    assert_eq!(answer.json(), json!({"output": [{"affectedrows": 3}, records(&rows)]}));
    assert_eq!(server.post(&[("sql", "write")]).await.json(), json!({"output": [{"affectedrows": 3}]}));
    assert_eq!(server.sql("empty", "json").await.json(), json!({"output": [records(&json!([]))]}));
}

#[tokio::test]
async fn failures_have_code_and_status() {
    let server = Server::start().await;
    let answer = server.get("/v1/sql", &[("sql", "nonsense")]).await;
    assert_eq!((answer.status, answer.json()), (400, json!({"code": 2000, "error": "'nonsense' is not SQL"})));
    let answer = server.post(&[("sql", "db"), ("db", "weather")]).await;
    assert_eq!((answer.status, answer.json()), (404, json!({"code": 4004, "error": "database 'weather' does not exist"})));
    assert!(server.get("/v1/sql", &[("sql", "db")]).await.text().contains("'public'"));
    let answer = server.sql("panic", "json").await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (500, json!(1003)));
    assert_eq!(server.sql("write", "json").await.status, 200);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    assert!(server.get("/v1/sql", &[]).await.text().contains("no SQL"));
    assert!(server.sql("rows", "xml").await.text().contains("'xml' is not a format"));
    assert_eq!(server.post(&[("sql", &format!("-- long {}", "x".repeat(3_000)))]).await.status, 200);
    let answer = server.post(&[("sql", &format!("-- long {}", "x".repeat(5_000)))]).await;
    assert_eq!(answer.status, 413);
    assert!(answer.json()["error"].as_str().unwrap().contains("http.body_bytes_max"));
    assert_eq!(server.get("/v2/sql", &[]).await.status, 404);
}

#[tokio::test]
async fn csv_and_tables_are_text() {
    let server = Server::start().await;
    let answer = server.sql("both", "csv").await;
    assert!(answer.content_type.starts_with("text/csv"));
    assert_eq!(answer.text(), "3\n\nhost,n,v\na,1,0.5\n,9223372036854775807,NaN\n");
    assert_eq!(server.sql("empty", "csv").await.text(), "host,n,v\n");
    let text = server.sql("both", "table").await;
    assert!(text.text().starts_with("affected rows: 3\n+------+") && text.text().ends_with("(2 rows)\n"), "{}", text.text());
    assert!(server.sql("rows", "vertical").await.text().contains("-[ row 4 ]"));
}

#[tokio::test]
async fn arrow_is_an_ipc_stream() {
    let server = Server::start().await;
    let read = |body: &[u8]| StreamReader::try_new(body, None).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    let answer = server.sql("rows", "arrow").await;
    assert_eq!(read(&answer.body).len(), 2);
    assert_eq!(format!("{:?}", read(&answer.body)[0]), format!("{:?}", batch()));
    let answer = server.sql("empty", "arrow").await;
    assert_eq!(StreamReader::try_new(&answer.body[..], None).unwrap().schema(), batch().schema());
    assert!(read(&answer.body).is_empty());
    assert_eq!(read(&server.sql("write", "arrow").await.body)[0].num_rows(), 1);
}

#[tokio::test]
async fn a_result_that_fails_late_is_never_taken_for_whole() {
    let server = Server::start().await;
    for format in ["json", "table", "csv", "arrow"] {
        let answer = server.sql("fail first", format).await;
        assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!(5000)), "{format}");
    }
    assert_eq!(server.sql("fail later", "json").await.status, 503);
    for format in ["csv", "arrow"] {
        let answer = server.sql("fail later", format).await;
        assert!(answer.broken, "{format}");
    }
}

#[tokio::test]
async fn json_has_a_limit_and_streams_have_none() {
    let server = Server::start().await;
    let answer = server.sql("huge", "json").await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (429, json!(6000)));
    assert_eq!(server.sql("huge", "csv").await.text().lines().count(), 4_001);
}

#[tokio::test]
async fn health_metrics_and_version_answer() {
    let server = Server::start().await;
    let answer = server.get("/health", &[]).await;
    assert_eq!((answer.status, answer.text()), (200, "{}"));
    assert_eq!(server.get("/metrics", &[]).await.status, 200);
    assert!(server.get("/v1/version", &[]).await.text().contains(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_shutdown_waits_for_running_statements_and_accepts_no_others() {
    let server = Server::start().await;
    let url = format!("http://{}/v1/sql?sql=slow", server.addr);
    let running = env::spawn_blocking(move || reply(agent().get(url).call()));
    server.service.begun.notified().await;
    let Server { addr, service, stop, mut task } = server;
    stop.send(()).unwrap();
    // Once the listener is closed, connections are refused; the statement is still running then.
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(&mut task).is_pending());
    service.release.notify_one();
    assert_eq!(running.await.unwrap().json(), json!({"output": [{"affectedrows": 1}]}));
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_statement_ends_even_if_its_client_goes_away() {
    let server = Server::start().await;
    let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    stream.writable().await.unwrap();
    stream.try_write(b"GET /v1/sql?sql=slow HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    server.service.begun.notified().await;
    drop(stream);
    let Server { service, stop, task, .. } = server;
    stop.send(()).unwrap();
    service.release.notify_one();
    task.await.unwrap().unwrap();
    assert_eq!(service.ended.load(SeqCst), 1);
}

#[tokio::test]
async fn a_statement_is_told_that_its_client_went_away() {
    let server = Server::start().await;
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /v1/sql?sql=endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.service.begun.notified().await;
    assert_eq!(server.sql("write", "json").await.status, 200);
    assert_eq!(server.service.ended.load(SeqCst), 0, "others come and go");
    drop(stream);
    let Server { service, stop, task, .. } = server;
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!(service.ended.load(SeqCst), 1);
}

#[tokio::test]
async fn operators_turn_switches_and_read_them_back() {
    let server = Server::start().await;
    for (mode, on, off) in [
        ("recovery", ("enable", r#"{"enabled":true}"#), ("disable", r#"{"enabled":false}"#)),
        ("maintenance", ("enable", r#"{"enabled":true}"#), ("disable", r#"{"enabled":false}"#)),
        ("procedure-manager", ("pause", r#"{"status":"paused"}"#), ("resume", r#"{"status":"running"}"#)),
    ] {
        let status = async || server.get(&format!("/admin/{mode}/status"), &[]).await;
        assert_eq!(status().await.text(), off.1, "{mode}");
        for (verb, body) in [on, on, off, off, on] {
            let answer = server.admin(&format!("{mode}/{verb}"), "").await;
            assert_eq!((answer.status, answer.content_type.as_str(), answer.text()), (200, "application/json", body), "{mode}/{verb}");
            assert_eq!(status().await.text(), body);
        }
        assert_eq!(server.get(&format!("/admin/{mode}/{}", on.0), &[]).await.status, 405, "a GET turns nothing");
        assert_eq!(server.get(&format!("/admin/{mode}"), &[]).await.status, 404);
    }
}

#[tokio::test]
async fn the_next_table_id_is_read_and_set_or_refused_with_a_reason() {
    let server = Server::start().await;
    let next = async || server.get("/admin/sequence/table/next-id", &[]).await;
    assert_eq!((next().await.status, next().await.text()), (200, r#"{"next_table_id":1024}"#));
    let refused = server.admin("sequence/table/set-next-id", r#"{"next_table_id":2048}"#).await;
    assert_eq!((refused.status, refused.json()), (409, json!({"code": 1006, "error": "recovery mode is off"})));
    server.admin("recovery/enable", "").await;
    for body in ["", "2048", r#"{"next_table_id":"2048"}"#, r#"{"next_table_id":4294967296}"#, r#"{"next_table_id":1,"x":2}"#] {
        let refused = server.admin("sequence/table/set-next-id", body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text().contains("next_table_id"), "{}", refused.text());
    }
    let set = server.admin("sequence/table/set-next-id", r#"{"next_table_id":2048}"#).await;
    assert_eq!((set.status, set.text()), (200, r#"{"next_table_id":2048}"#));
    assert_eq!(next().await.text(), r#"{"next_table_id":2048}"#);
    assert_eq!(server.get("/admin/doctor", &[]).await.status, 503);
}

#[tokio::test]
async fn procedures_are_listed_and_their_ids_are_checked() {
    let server = Server::start().await;
    assert_eq!(server.get("/admin/procedures", &[]).await.text(), r#"{"procedures":[]}"#);
    assert_eq!(server.get("/admin/procedures", &[("after", "p1"), ("limit", "2")]).await.status, 200);
    for query in [("after", "no such id"), ("limit", "x"), ("colour", "red")] {
        assert_eq!(server.get("/admin/procedures", &[query]).await.status, 400, "{query:?}");
    }
    let answer = server.get("/admin/procedures/p1", &[]).await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (404, json!(9000)));
    assert_eq!(server.get("/admin/procedures/p%201", &[]).await.status, 400);
    assert_eq!(server.admin("procedures/p1/cancel", "").await.status, 409);
    assert_eq!(server.admin("procedures/p1/retry", "").await.status, 409);
    assert_eq!(server.admin("procedures/p1/stop", "").await.status, 404);
}
