//! The client of `/v1/sql` and of what is read below `/admin`.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::Deserialize;
use tessera_manifest::env::Stopwatch;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::config::limits;
use crate::output::Format;

/// How long the client waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error("'{addr}' is not an address of a server: {reason}")]
    Address {
        /// The address as given.
        addr: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody answers there.
    #[error("no server answers at {addr} ({reason}); is `tessera standalone` running?")]
    Unreachable {
        /// The server.
        addr: String,
        /// What the network says.
        reason: String,
    },
    /// The server refused the statement, or it failed.
    #[error("{message} (error {code})")]
    Refused {
        /// The server's code, or the HTTP status if it gave none.
        code: u64,
        /// What the server says.
        message: String,
    },
    /// The answer ended before its end.
    #[error("the server broke its answer off ({reason}); its log says why")]
    Broken {
        /// What the network says.
        reason: String,
    },
}

/// A connection to one server.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    base: String,
}

/// The result of one request, as it comes.
pub struct Answer {
    body: Box<dyn Read>,
    watch: Stopwatch,
}

#[derive(Deserialize)]
struct Failure {
    code: u64,
    error: String,
}

impl Client {
    /// A client of the server at `addr`, `http://host:port` or `host:port`. Does not connect yet.
    ///
    /// # Errors
    /// When that is not an HTTP address.
    pub fn new(addr: &str) -> Result<Self, ClientError> {
        let fail = |reason: &str| ClientError::Address { addr: addr.to_owned(), reason: reason.to_owned() };
        let host = match addr.trim().split_once("://") {
            None => addr.trim(),
            Some(("http", host)) => host,
            Some(_) => return Err(fail("only http:// is spoken")),
        };
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(fail("expected http://host:port"));
        }
        let config = Agent::config_builder().http_status_as_error(false).proxy(None).timeout_connect(Some(CONNECT_TIMEOUT)).build();
        Ok(Self { agent: config.new_agent(), base: format!("http://{host}") })
    }

    /// The server's address.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.base
    }

    /// Executes SQL; the result comes as a stream.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub fn execute(&self, sql: &str, database: &str, format: Format) -> Result<Answer, ClientError> {
        let watch = Stopwatch::start();
        let form = [("sql", sql), ("db", database), ("format", &format.to_string())];
        let sent = self.agent.post(format!("{}/v1/sql", self.base)).send_form(form);
        let response = sent.map_err(|error| self.failed(&error))?;
        if response.status().is_success() {
            return Ok(Answer { body: Box::new(response.into_body().into_reader()), watch });
        }
        Err(refusal(response))
    }

    /// Asks whether the server takes requests.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn check(&self) -> Result<(), ClientError> {
        let response = self.agent.get(format!("{}/health", self.base)).call().map_err(|error| self.failed(&error))?;
        if response.status().is_success() { Ok(()) } else { Err(refusal(response)) }
    }

    /// The whole answer to a GET of a path.
    ///
    /// # Errors
    /// When the server refuses or does not answer, or answers with more than [`limits::ADMIN_ANSWER_BYTES_MAX`].
    pub fn get(&self, path: &str) -> Result<String, ClientError> {
        let response = self.agent.get(format!("{}{path}", self.base)).call().map_err(|error| self.failed(&error))?;
        if !response.status().is_success() {
            return Err(refusal(response));
        }
        let mut body = response.into_body().into_with_config().limit(limits::ADMIN_ANSWER_BYTES_MAX).reader();
        let mut text = String::new();
        body.read_to_string(&mut text).map_err(|error| ClientError::Broken { reason: error.to_string() })?;
        Ok(text)
    }

    fn failed(&self, error: &ureq::Error) -> ClientError {
        let reason = match error {
            ureq::Error::Io(source) if source.kind() == io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ureq::Error::Io(source) if matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                return ClientError::Broken { reason: source.to_string() };
            }
            ureq::Error::BadUri(uri) => return ClientError::Address { addr: self.base.clone(), reason: uri.clone() },
            other => other.to_string(),
        };
        ClientError::Unreachable { addr: self.base.clone(), reason }
    }
}

impl Answer {
    /// Copies the rest of the answer to `out`.
    ///
    /// # Errors
    /// When the answer breaks off, or `out` fails.
    pub fn copy_to(&mut self, out: &mut dyn Write) -> Result<(), super::ShellError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match self.body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ClientError::Broken { reason: error.to_string() }.into()),
            };
            out.write_all(&buffer[..count])?;
        }
    }

    /// Time since the request began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.watch.elapsed()
    }
}

fn refusal(response: Response<Body>) -> ClientError {
    let status = u64::from(response.status().as_u16());
    let mut bytes = Vec::new();
    let read = response.into_body().into_reader().take(limits::ERROR_BODY_BYTES_MAX).read_to_end(&mut bytes);
    if let Err(error) = read {
        return ClientError::Broken { reason: error.to_string() };
    }
    match serde_json::from_slice::<Failure>(&bytes) {
        Ok(Failure { code, error }) => ClientError::Refused { code, message: error },
        Err(_) => ClientError::Refused { code: status, message: format!("HTTP {status}: {}", String::from_utf8_lossy(&bytes).trim()) },
    }
}
