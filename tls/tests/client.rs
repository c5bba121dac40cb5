//! Against a server of OpenSSL on loopback.

#![allow(clippy::unwrap_used, clippy::panic)]

mod certificates;

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use certificates::{Alternative, Identity};
use http::Uri;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod, SslVerifyMode};
use tls::{ConnectError, Connector, Files, FilesError, Which};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_openssl::SslStream;

/// Accepts connections for `localhost` and tells the names of those who come.
async fn serve(ca: &Identity) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let own = ca.issue("server", &Alternative::Host("localhost"));
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_certificate(&own.cert).unwrap();
    acceptor.set_private_key(&own.key).unwrap();
    acceptor.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
    acceptor.set_verify(SslVerifyMode::PEER);
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let names = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            if Pin::new(&mut stream).accept().await.is_ok() {
                let name = stream.ssl().peer_certificate().map_or_else(String::new, |certificate| {
                    let mut names = certificate.subject_name().entries();
                    names.next().unwrap().data().to_string().unwrap()
                });
                names.lock().unwrap().push(name);
                let _ = stream.write_all(b"hello").await;
            }
        }
    });
    (address, seen)
}

fn to(address: SocketAddr) -> Uri {
    format!("https://localhost:{}", address.port()).parse().unwrap()
}

fn files(ca: &Path) -> Files {
    Files { ca: Some(ca.to_owned()), ..Files::default() }
}

async fn greet(connector: &Connector, uri: &Uri) -> Result<(), ConnectError> {
    let mut greeting = [0; 5];
    connector.connect(uri).await?.read_exact(&mut greeting).await?;
    assert_eq!(&greeting, b"hello");
    Ok(())
}

#[tokio::test]
async fn the_server_has_to_be_who_it_should_be() {
    let (ca, other) = (Identity::ca("one"), Identity::ca("another"));
    let directory = tempfile::tempdir().unwrap();
    let (right, _) = ca.write(directory.path(), "ca");
    let (wrong, _) = other.write(directory.path(), "other");
    let (address, _) = serve(&ca).await;
    let connector = Connector::new(files(&right)).unwrap();
    greet(&connector, &to(address)).await.unwrap();
    let elsewhere: Uri = format!("https://127.0.0.1:{}", address.port()).parse().unwrap();
    let mismatch = greet(&connector, &elsewhere).await.unwrap_err();
    assert!(
        matches!(mismatch, ConnectError::Certificate(reason) if reason.contains("mismatch")),
        "{mismatch}"
    );
    greet(&connector.expecting("localhost"), &elsewhere).await.unwrap();
    let refused = greet(&Connector::new(files(&wrong)).unwrap(), &to(address)).await.unwrap_err();
    assert!(refused.to_string().starts_with("TLS: the server's certificate: "), "{refused}");
    // Nor is it trusted by the system.
    let refused = greet(&Connector::new(Files::default()).unwrap(), &to(address)).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Certificate(_)), "{refused}");
}

#[tokio::test]
async fn what_is_renewed_in_its_place_is_used_by_the_next_connection() {
    let ca = Identity::ca("one");
    let directory = tempfile::tempdir().unwrap();
    let (ca_file, _) = ca.write(directory.path(), "ca");
    let (cert, key) = ca.issue("before", &Alternative::None).write(directory.path(), "own");
    let (address, seen) = serve(&ca).await;
    let all = Files { cert: Some(cert), key: Some(key.clone()), ..files(&ca_file) };
    let connector = Connector::new(all).unwrap();
    greet(&connector, &to(address)).await.unwrap();
    ca.issue("after", &Alternative::None).write(directory.path(), "own");
    greet(&connector, &to(address)).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["before", "after"]);
    std::fs::remove_file(key).unwrap();
    let gone = greet(&connector, &to(address)).await.unwrap_err();
    assert!(gone.to_string().contains("own.key: No such file"), "{gone}");
}

#[test]
fn what_is_wrong_with_files_is_told_by_file() {
    let ca = Identity::ca("one");
    let directory = tempfile::tempdir().unwrap();
    let (ca_file, _) = ca.write(directory.path(), "ca");
    let (cert, key) = ca.issue("one", &Alternative::None).write(directory.path(), "one");
    let (_, other) = ca.issue("two", &Alternative::None).write(directory.path(), "two");
    let nonsense = directory.path().join("nonsense");
    std::fs::write(&nonsense, "-----BEGIN NONSENSE-----").unwrap();
    let told = |files: Files| {
        let error = Connector::new(files).err()?;
        Some((error.which()?, error.to_string()))
    };
    let pair = |cert: &Path, key: &Path| Files {
        cert: Some(cert.to_owned()),
        key: Some(key.to_owned()),
        ..files(&ca_file)
    };
    assert_eq!(told(pair(&cert, &key)), None);
    for (files, which, word) in [
        (files(&directory.path().join("nowhere")), Which::Ca, "nowhere: No such file"),
        (files(&nonsense), Which::Ca, "nonsense: is no certificate"),
        (pair(&nonsense, &key), Which::Cert, "nonsense: is no certificate"),
        (pair(&cert, &nonsense), Which::Key, "nonsense: is no key"),
        (pair(&cert, &other), Which::Key, "two.key: is no key in PEM, or not that of"),
    ] {
        let (of, said) = told(files).unwrap();
        assert_eq!(of, which);
        assert!(said.contains(word), "{said}");
    }
    let half = Connector::new(Files { cert: Some(cert), ..files(&ca_file) }).unwrap_err();
    assert!(matches!(half, FilesError::Half));
}
