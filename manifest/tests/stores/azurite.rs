//! Azurite: Azure Blob Storage in memory, in JavaScript. `npm install azurite`; the program is `azurite-blob`.

use std::process::Command;

use tessera_manifest::store::Options;

use super::server::{Processes, find, free_port, http};

/// The account and key of every Azurite, as its documentation gives them.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Creates a container: one request with a shared-key signature, which the client crate does not make for containers.
const CREATE_CONTAINER: &str = r"
const [port, account, key, container] = process.argv.slice(1);
const date = new Date().toUTCString(), version = '2021-08-06';
const text = 'PUT' + '\n'.repeat(12) + `x-ms-date:${date}\nx-ms-version:${version}\n/${account}/${account}/${container}\nrestype:container`;
const sign = require('crypto').createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');
const headers = { 'x-ms-date': date, 'x-ms-version': version, authorization: `SharedKey ${account}:${sign}`, 'content-length': 0 };
const options = { host: '127.0.0.1', port, path: `/${account}/${container}?restype=container`, method: 'PUT', headers };
require('http').request(options, answer => { console.log(answer.statusCode); answer.pipe(process.stdout); }).end();
";

/// A server with the container `tessera`.
pub(crate) struct Azurite {
    port: u16,
    _processes: Processes,
}

impl Azurite {
    /// What a client needs to know.
    pub(crate) fn options(&self) -> Options {
        options(self.port)
    }
}

/// What a client of an Azure server on loopback needs to know.
pub(crate) fn options(port: u16) -> Options {
    let endpoint = format!("http://127.0.0.1:{port}/{ACCOUNT}");
    Options::explicit().with("endpoint", endpoint).with("allow_http", "true").with("account_name", ACCOUNT).with("access_key", KEY)
}

/// Starts a server; `None`, and a note, where it is not installed.
pub(crate) async fn start() -> Option<Azurite> {
    let program = find(Some("TESSERA_TEST_AZURITE_BLOB"), "azurite-blob")?;
    let node = find(Some("TESSERA_TEST_NODE"), "node")?;
    let port = free_port();
    let mut processes = Processes::new();
    let mut command = Command::new(&node);
    command.arg(program).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    processes.spawn("azurite", command.args(["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]));
    processes.wait("azurite", || async { http("GET", port, "/").await.is_ok() }).await;
    let created = Processes::output(Command::new(node).args(["-e", CREATE_CONTAINER, "--", &port.to_string(), ACCOUNT, KEY, "tessera"]));
    assert!(created.as_ref().is_ok_and(|status| status.starts_with("201")), "cannot create a container: {created:?}");
    Some(Azurite { port, _processes: processes })
}
