//! Streams of octets, and gRPC by them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::StreamExt as _;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn octets_go_both_ways_and_each_says_whose_they_are() {
    let [a, b] = cluster(["a", "b"]).await;
    let mut incoming = b.mesh.incoming().unwrap();
    assert!(b.mesh.incoming().is_none(), "there is one who takes them");
    let mut there = a.mesh.open("b").await.unwrap();
    there.write_all(b"hello").await.unwrap();
    let mut here = incoming.next().await.unwrap().unwrap();
    assert_eq!((here.node(), there.node()), ("a", "b"));
    let mut read = [0; 5];
    here.read_exact(&mut read).await.unwrap();
    here.write_all(&read).await.unwrap();
    here.shutdown().await.unwrap();
    let mut back = Vec::new();
    there.read_to_end(&mut back).await.unwrap();
    assert_eq!((&read, back.as_slice()), (b"hello", b"hello".as_slice()));
}
