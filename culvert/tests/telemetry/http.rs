//! A client of HTTP in as few lines as it takes: what comes back is read as it is on the wire.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Status and body of the answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    said(address, &format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"))
}

/// The same of any request.
pub(crate) fn said(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
