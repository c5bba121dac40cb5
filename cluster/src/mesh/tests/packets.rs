//! Packets that are passed on.

use bytes::Bytes;

use super::*;
use crate::mesh::{MAX_PACKET, MeshError};

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_every_size_arrive_as_they_were_from_any_thread() {
    let [a, mut b] = cluster(["a", "b"]).await;
    for length in [0, 1, 1_000, 1_200, 1_500, 9_000, MAX_PACKET] {
        let packet: Bytes = (0..length).map(|n| n as u8).collect::<Vec<_>>().into();
        let (mesh, sent) = (a.mesh.clone(), packet.clone());
        // A thread that knows nothing of tokio, again and again, for what is unreliable may be lost.
        std::thread::spawn(move || mesh.packet("b", 3, &sent)).join().unwrap().unwrap();
        let received = tokio::time::timeout(PATIENCE, b.packets.recv()).await.unwrap().unwrap();
        assert_eq!(received, ("a".to_owned(), 3, packet));
    }
    // It is counted as sent once it is, when it may have arrived already.
    let counted = async {
        while a.mesh.counters().packets_sent_octets < b.mesh.counters().packets_received_octets {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
    let (of_a, of_b) = (a.mesh.counters(), b.mesh.counters());
    assert_eq!((of_a.packets_sent, of_b.packets_received), (7, 7));
    assert_eq!(of_a.packets_sent_octets, of_b.packets_received_octets);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_passed_on_is_counted_by_its_reason() {
    let [a, _b] = cluster(["a", "b"]).await;
    assert!(matches!(a.mesh.packet("x", 1, &[0; 100]), Err(MeshError::Away(_))));
    assert!(matches!(a.mesh.packet("b", 1, &[0; MAX_PACKET + 1]), Err(MeshError::TooLarge { .. })));
    // More than may wait, faster than anything takes it.
    let full = (0..100_000).find_map(|_| a.mesh.packet("b", 1, &[0; MAX_PACKET]).err());
    assert!(matches!(full, Some(MeshError::Full(_))));
    let figures = a.mesh.counters();
    let dropped = (figures.packets_without_connection, figures.packets_too_large, figures.packets_queue_full);
    assert_eq!(dropped, (1, 1, 1));
}
