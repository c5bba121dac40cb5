//! A datagram on its way to whoever holds its IKE_SA.

use actix::Message;
use router::IkeDatagram;

/// A datagram for one of the receiver's IKE_SAs.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver(pub(crate) IkeDatagram);
