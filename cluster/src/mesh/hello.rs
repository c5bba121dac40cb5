//! What a connection begins with: who the two are. Their certificates say which names they may have.

use std::time::Duration;

use prost::Message;
use quinn::{Connection, RecvStream, SendStream};

use super::credentials::carries;
use super::peer::Inner;
use super::session::PeerCertificates;
use super::stream::opening;

/// From the first octet until both know who they are. A handshake takes a few round trips and the processor's time.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Octets of one at most: a name has 63, and an instance 16.
const MAX_HELLO: usize = 1024;

/// Who somebody is.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Hello {
    /// Name among the nodes.
    #[prost(string, tag = "1")]
    pub(super) node: String,
    /// The process.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) instance: Vec<u8>,
}

/// Says who we are to a node that has been connected with as `node`, and hears that it is.
pub(super) async fn greet(inner: &Inner, connection: &Connection, node: &str) -> Result<Hello, String> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.write_all(&[opening::HELLO]).await.map_err(|error| error.to_string())?;
    say(inner, &mut send).await?;
    let other = hear(&mut recv).await?;
    check(connection, &other, inner)?;
    if other.node == node {
        Ok(other)
    } else {
        Err(format!("it is {:?} that answers for {node:?}", other.node))
    }
}

/// Hears who has connected, and says who we are.
pub(super) async fn welcome(inner: &Inner, connection: &Connection) -> Result<Hello, String> {
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|error| error.to_string())?;
    let mut first = [0];
    recv.read_exact(&mut first).await.map_err(|error| error.to_string())?;
    if first != [opening::HELLO] {
        return Err("it does not say who it is".to_owned());
    }
    let other = hear(&mut recv).await?;
    check(connection, &other, inner)?;
    say(inner, &mut send).await?;
    Ok(other)
}

async fn say(inner: &Inner, send: &mut SendStream) -> Result<(), String> {
    let hello = Hello { node: inner.name.clone(), instance: inner.instance.clone() };
    send.write_all(&hello.encode_to_vec()).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())
}

async fn hear(recv: &mut RecvStream) -> Result<Hello, String> {
    let octets = recv.read_to_end(MAX_HELLO).await.map_err(|error| error.to_string())?;
    Hello::decode(octets.as_slice())
        .map_err(|error| format!("what it says of itself cannot be read: {error}"))
}

/// Whether it may say so.
fn check(connection: &Connection, other: &Hello, inner: &Inner) -> Result<(), String> {
    let identity =
        connection.peer_identity().and_then(|identity| identity.downcast::<PeerCertificates>().ok());
    let certificate = identity.as_ref().and_then(|chain| chain.first());
    if !certificate.is_some_and(|certificate| carries(certificate, &other.node)) {
        return Err(format!("it says that it is node {:?}, which its certificate does not name", other.node));
    }
    if other.node == inner.name {
        return Err(format!("it says that it is node {:?}, as this is", other.node));
    }
    if inner.is_outdone(other) {
        return Err(format!("another process of node {:?} is there, and has the name", other.node));
    }
    Ok(())
}
