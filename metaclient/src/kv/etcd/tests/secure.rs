//! TLS with certificates on both sides; users, and tokens that a server forgets.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use etcd_client::{Client, Permission};

use super::need_etcd;
use crate::conformance::etcd::{Cluster, ClusterOptions};
use crate::kv::{EtcdBackend, EtcdIdentity, EtcdOptions, EtcdTls, EtcdUser, KeyRange, KvBackend, KvError, Op, Revision, Txn};

fn openssl(folder: &Path, arguments: &str) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// An authority and a certificate of the server and of a client; `false` where there is no openssl.
fn make_certificates(folder: &Path) -> bool {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    std::fs::write(folder.join("extensions"), "subjectAltName=IP:127.0.0.1,DNS:etcd.test\nextendedKeyUsage=serverAuth,clientAuth\n")
        .unwrap();
    let signed = |name: &str| {
        openssl(folder, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"))
            && openssl(
                folder,
                &format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"),
            )
    };
    openssl(folder, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca")) && signed("server") && signed("client")
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_the_right_authority_and_a_certificate_of_the_client() {
    need_etcd!();
    let folder = tempfile::tempdir().unwrap();
    if !make_certificates(folder.path()) {
        println!("skipped: there is no openssl here to make certificates");
        return;
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let arguments =
        ["--cert-file", &path("server.pem"), "--key-file", &path("server.key"), "--client-cert-auth", "--trusted-ca-file", &path("ca.pem")];
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let cluster = Cluster::start(ClusterOptions { nodes: 1, arguments, tls: true }).await;
    let identity = EtcdIdentity { certificate_pem: read("client.pem"), key_pem: read("client.key") };
    let tls = EtcdTls { ca_pem: read("ca.pem"), identity: Some(identity), domain: Some("etcd.test".to_owned()) };
    let options =
        |tls: Option<EtcdTls>| EtcdOptions { tls, request_timeout: Duration::from_secs(1), ..EtcdOptions::new(cluster.endpoints()) };
    let kv = EtcdBackend::connect(&options(Some(tls.clone()))).await.unwrap();
    let start = kv.txn(Txn::new().then([Op::put("a", "1")])).await.unwrap().revision;
    let mut watch = kv.watch(KeyRange::all(), start).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, start);
    let wrong = [
        EtcdTls { identity: None, ..tls.clone() },
        EtcdTls { ca_pem: read("server.pem"), ..tls.clone() },
        EtcdTls { domain: Some("elsewhere.test".to_owned()), ..tls.clone() },
    ];
    for tls in wrong {
        let refused = EtcdBackend::connect(&options(Some(tls))).await;
        assert!(matches!(refused, Err(KvError::Unavailable { .. })), "{refused:?}");
    }
}

/// A root, and a user `tessera` who may read and write everything.
async fn make_users(endpoint: &str) {
    let mut client = Client::connect([endpoint], None).await.unwrap();
    client.user_add("root", "secret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("tessera", "hidden", None).await.unwrap();
    client.role_add("everything").await.unwrap();
    client.role_grant_permission("everything", Permission::read_write("\0").with_from_key()).await.unwrap();
    client.user_grant_role("tessera", "everything").await.unwrap();
    client.auth_enable().await.unwrap();
}

fn user(endpoint: String, name: &str, password: &str) -> EtcdOptions {
    let user = EtcdUser { name: name.to_owned(), password: password.to_owned() };
    EtcdOptions { user: Some(user), ..EtcdOptions::new([endpoint]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_the_password_and_the_permission() {
    need_etcd!();
    let cluster = Cluster::single().await;
    make_users(&cluster.endpoint(0)).await;
    for options in [user(cluster.endpoint(0), "tessera", "guessed"), EtcdOptions::new(cluster.endpoints())] {
        let refused = EtcdBackend::connect(&options).await;
        assert!(matches!(refused, Err(KvError::Refused { .. })), "{refused:?}");
    }
    let tessera = user(cluster.endpoint(0), "tessera", "hidden");
    let kv = EtcdBackend::connect(&tessera).await.unwrap();
    kv.txn(Txn::new().then([Op::put("a", "1")])).await.unwrap();
    let root = etcd_client::ConnectOptions::new().with_user("root", "secret");
    let mut root = Client::connect(cluster.endpoints(), Some(root)).await.unwrap();
    root.user_revoke_role("tessera", "everything").await.unwrap();
    let refused = kv.txn(Txn::new().then([Op::put("a", "2")])).await;
    assert!(matches!(refused, Err(KvError::Refused { .. })), "{refused:?}");
    assert!(matches!(kv.get(&"a".into()).await, Err(KvError::Refused { .. })));
    let mut watch = kv.watch(KeyRange::all(), Revision(1)).await.unwrap();
    assert!(matches!(watch.next().await, Err(KvError::Refused { .. })));
    let refused = EtcdBackend::connect(&tessera).await;
    assert!(matches!(refused, Err(KvError::Refused { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_server_forgot_is_renewed() {
    need_etcd!();
    let mut cluster = Cluster::single().await;
    make_users(&cluster.endpoint(0)).await;
    let kv = EtcdBackend::connect(&user(cluster.endpoint(0), "tessera", "hidden")).await.unwrap();
    let lease = kv.grant(Duration::from_secs(60)).await.unwrap();
    let start = kv.txn(Txn::new().then([Op::put("a", "1")])).await.unwrap().revision;
    let mut watch = kv.watch(KeyRange::all(), start.next()).await.unwrap();
    for round in 0..2 {
        // Tokens of this kind are kept in memory.
        cluster.kill(0);
        cluster.restart(0).await;
        if round == 0 {
            kv.keep_alive(lease.id).await.unwrap();
        }
        let next = kv.txn(Txn::new().then([Op::put("a", "2")])).await.unwrap().revision;
        assert_eq!(watch.next().await.unwrap().revision, next);
    }
}

#[test]
fn secrets_are_not_shown() {
    let user = EtcdUser { name: "tessera".to_owned(), password: "hidden".to_owned() };
    let identity = EtcdIdentity { certificate_pem: b"pem-1".to_vec(), key_pem: b"pem-2".to_vec() };
    let shown = format!("{user:?} {identity:?}");
    assert!(!shown.contains("hidden") && !shown.contains("112"), "{shown}");
}
