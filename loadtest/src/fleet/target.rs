//! Who is loaded and by how many: the arguments that all loads of tunnels share.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use ike::{EspProposal, IkeProposal};

use super::place::TUNNELS_PER_TENANT;
use super::template::Template;
use crate::engine::times::time;

/// Which responder, and what is spoken with it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// Where the node's API is: http://127.0.0.1:50051 or unix:/run/culvert/culvertd.sock
    #[arg(long, env = "CULVERT_SERVER", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    pub(crate) server: String,
    /// Where the responder receives IKE
    #[arg(long, alias = "responder", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    pub(crate) address: IpAddr,
    /// Its UDP port of IKE
    #[arg(long, default_value_t = 500, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ike_port: u16,
    /// Its UDP port of IKE and ESP behind NAT
    #[arg(long, default_value_t = 4500, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) natt_port: u16,
    /// What the tunnels speak; IKEv1 in Main Mode, where each peer is known by its address and so has a socket of its own
    #[arg(long, value_enum, default_value_t = Version::Ikev2)]
    pub(crate) version: Version,
    /// IKE proposal [default: aes128gcm16-prfsha256-x25519, aes128-sha256-x25519 in IKEv1]
    #[arg(long, value_name = "PROPOSAL")]
    pub(crate) ike: Option<IkeProposal>,
    /// ESP proposal [default: aes128gcm16]
    #[arg(long, value_name = "PROPOSAL")]
    pub(crate) esp: Option<EspProposal>,
    /// Initiators that share a socket [default: one each while the limit of open files allows it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) per_socket: Option<u32>,
    /// Peers of one tenant, on a node that is provisioned
    #[arg(long, default_value_t = TUNNELS_PER_TENANT, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) per_tenant: u32,
    /// Each tunnel shows a certificate of its own in place of the pre-shared key, on a node that is provisioned
    #[arg(long)]
    pub(crate) certificates: bool,
    /// A tunnel has failed that is not up after this
    #[arg(long, default_value = "30s", value_parser = time, value_name = "TIME")]
    pub(crate) timeout: Duration,
}

/// A responder that somebody else has configured.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "A responder that is not provisioned")]
#[command(group(ArgGroup::new("proof").args(["psk_file", "ca_file"])))]
pub(crate) struct Foreign {
    /// The responder knows its peers already, whatever it is: no API is used
    #[arg(long, requires = "proof")]
    pub(crate) no_provision: bool,
    /// Identity of a tunnel's initiator; {n} is its number from 0
    #[arg(long, default_value = "p{n}.example", value_name = "TEMPLATE", requires = "no_provision")]
    pub(crate) identity_template: Template,
    /// Identity of the responder
    #[arg(long, default_value = "hub.example", value_name = "IDENTITY", requires = "no_provision")]
    pub(crate) remote_identity: String,
    /// File with the pre-shared key; a line end behind it is no part of it
    #[arg(long, value_name = "FILE", requires = "no_provision")]
    pub(crate) psk_file: Option<PathBuf>,
    /// File with the certificate and the key of an authority that the responder trusts, as PEM, in place of a pre-shared key: each tunnel gets
    /// a certificate of it
    #[arg(long, value_name = "FILE", requires = "no_provision")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with the authorities of the responder's certificate [default: that of --ca-file]
    #[arg(long, value_name = "FILE", requires = "ca_file")]
    pub(crate) trust_file: Option<PathBuf>,
    /// Subnet behind a tunnel's initiator; {n} is its number, {x}.{y}.{z} are its octets
    #[arg(long, default_value = "10.{x}.{y}.{z}/32", value_name = "TEMPLATE", requires = "no_provision")]
    pub(crate) local_subnet: Template,
    /// Subnet behind the responder
    #[arg(long, default_value = "10.0.0.0/8", value_name = "TEMPLATE", requires = "no_provision")]
    pub(crate) remote_subnet: Template,
    /// Address that all send from [default: one of 127.77.0.0 and above for each to a loopback address, else the system's choice]
    #[arg(long, value_name = "ADDRESS", requires = "no_provision")]
    pub(crate) source: Option<IpAddr>,
}

/// What the tunnels speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// RFC 7296
    Ikev2,
    /// RFC 2409
    Ikev1,
}

impl Version {
    /// The IKE proposal of every tunnel, where none is asked for.
    pub(crate) const fn proposal(self) -> &'static str {
        match self {
            Self::Ikev2 => "aes128gcm16-prfsha256-x25519",
            // There is no AEAD for phase 1.
            Self::Ikev1 => "aes128-sha256-x25519",
        }
    }
}
