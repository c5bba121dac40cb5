//! A pair of SAs as another node takes it over.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use esp::{
    InboundProgress, InboundSnapshot, Mode, MssClamp, OutboundProgress, OutboundSnapshot, RestoreError,
    SelectorPair, Spi, TfcPadding,
};
use prost::Message;
use snapshot::{Address, Form, SnapshotError, required};

use crate::model::{Ends, TenantId, TunnelId};
use crate::options::{Encapsulation, OuterDf, OuterDscp, OuterEcn, TunnelOptions};

/// Everything of a pair but what is measured anew. It holds keys: its parts are wiped when dropped, and it is printed without
/// them.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct PairSnapshot {
    #[prost(uint32, tag = "1")]
    tenant: u32,
    #[prost(uint64, tag = "2")]
    tunnel: u64,
    #[prost(bool, tag = "3")]
    own: bool,
    #[prost(bool, tag = "4")]
    transport: bool,
    #[prost(message, optional, tag = "5")]
    inbound: Option<InboundSnapshot>,
    #[prost(message, optional, tag = "6")]
    outbound: Option<OutboundSnapshot>,
    #[prost(message, optional, tag = "7")]
    options: Option<OptionsForm>,
    #[prost(message, optional, tag = "8")]
    local: Option<Address>,
    #[prost(message, optional, tag = "9")]
    remote: Option<Address>,
    #[prost(bool, tag = "10")]
    raw: bool,
    #[prost(bool, tag = "11")]
    active: bool,
    #[prost(bool, tag = "12")]
    follows: bool,
}

impl Form for PairSnapshot {
    const OF: &'static str = "a pair of SAs";
    const KIND: u8 = 7;
    const VERSION: u16 = 1;
}

impl fmt::Debug for PairSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairSnapshot({}, tenant {}, tunnel {})", self.spi(), self.tenant, self.tunnel)
    }
}

/// How far a pair has come since its snapshot was made: its replay window and its counts, without its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSnapshot {
    /// Inbound SPI of the pair.
    pub spi: u32,
    /// For [`PairSnapshot::set_window`].
    pub octets: Vec<u8>,
}

/// What the octets of a [`WindowSnapshot`] are.
#[derive(Clone, PartialEq, Eq, Message)]
struct ProgressForm {
    #[prost(message, optional, tag = "1")]
    inbound: Option<InboundProgress>,
    #[prost(message, optional, tag = "2")]
    outbound: Option<OutboundProgress>,
}

impl WindowSnapshot {
    pub(crate) fn new(spi: Spi, inbound: InboundProgress, outbound: OutboundProgress) -> Self {
        let form = ProgressForm { inbound: Some(inbound), outbound: Some(outbound) };
        Self { spi: spi.0, octets: form.encode_to_vec() }
    }

    fn read(octets: &[u8]) -> Result<ProgressForm, SnapshotError> {
        ProgressForm::decode(octets).map_err(|error| SnapshotError::value("the replay window", error))
    }

    /// Whether these octets are those of a window.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(octets: &[u8]) -> Result<(), SnapshotError> {
        Self::read(octets).map(drop)
    }
}

/// What a pair is made of, for its snapshot.
pub(crate) struct Parts<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) tunnel: TunnelId,
    pub(crate) own: bool,
    pub(crate) follows: bool,
    pub(crate) transport: bool,
    pub(crate) inbound: InboundSnapshot,
    pub(crate) outbound: OutboundSnapshot,
    pub(crate) options: &'a TunnelOptions,
    pub(crate) local: IpAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) active: bool,
}

impl PairSnapshot {
    pub(crate) fn new(parts: Parts<'_>) -> Self {
        Self {
            tenant: parts.tenant.0,
            tunnel: parts.tunnel.0,
            own: parts.own,
            transport: parts.transport,
            inbound: Some(parts.inbound),
            outbound: Some(parts.outbound),
            options: Some(OptionsForm::new(parts.options)),
            local: Some(SocketAddr::new(parts.local, 0).into()),
            remote: Some(parts.remote.into()),
            raw: parts.encapsulation == Encapsulation::Raw,
            active: parts.active,
            follows: parts.follows,
        }
    }

    /// Inbound SPI, which names the pair; 0 where there is none.
    pub fn spi(&self) -> Spi {
        self.inbound.as_ref().map_or(Spi(0), InboundSnapshot::spi)
    }

    /// The SPI that the peer chose; 0 where there is none.
    pub fn outbound_spi(&self) -> Spi {
        self.outbound.as_ref().map_or(Spi(0), OutboundSnapshot::spi)
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        TenantId(self.tenant)
    }

    /// The tunnel it carries.
    pub fn tunnel(&self) -> TunnelId {
        TunnelId(self.tunnel)
    }

    /// It is for this tunnel: nodes number them each for itself.
    pub const fn set_tunnel(&mut self, tunnel: TunnelId) {
        self.tunnel = tunnel.0;
    }

    /// Whether the tunnel sends on it.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Sequence number of the last packet that it knows to have been sealed.
    pub fn sequence_out(&self) -> u64 {
        self.outbound.as_ref().map_or(0, OutboundSnapshot::sequence)
    }

    /// The last number that the former owner has reserved, as far as this says.
    pub fn reserved(&self) -> u64 {
        let lease = self.outbound.as_ref().map_or(0, OutboundSnapshot::lease);
        lease.max(self.sequence_out())
    }

    /// Our address, and the peer's.
    ///
    /// # Errors
    /// If it has none.
    pub fn ends(&self) -> Result<(SocketAddr, SocketAddr), RestoreError> {
        let address = |address: &Option<Address>, field| required(address.as_ref(), field)?.read(field);
        Ok((address(&self.local, "our address")?, address(&self.remote, "the peer's address")?))
    }

    pub(crate) fn set_active(&mut self, active: bool) {
        self.active = active;
    }

    /// Takes over how far the pair has come since. What is older than the snapshot changes nothing.
    ///
    /// # Errors
    /// With what is wrong, if it is of another pair or of none. The snapshot stays as it is.
    pub fn set_window(&mut self, window: &WindowSnapshot) -> Result<(), RestoreError> {
        if window.spi != self.spi().0 {
            let reason = format!("it is of {}, the pair is {}", Spi(window.spi), self.spi());
            return Err(SnapshotError::value("the replay window", reason).into());
        }
        let form = WindowSnapshot::read(&window.octets)?;
        if let (Some(inbound), Some(progress)) = (&mut self.inbound, &form.inbound) {
            inbound.advance(progress)?;
        }
        if let (Some(outbound), Some(progress)) = (&mut self.outbound, &form.outbound) {
            outbound.advance(progress);
        }
        Ok(())
    }

    /// What a pair is to be made of.
    pub(crate) fn read(&self, local: Option<SocketAddr>) -> Result<Restored<'_>, RestoreError> {
        let inbound = required(self.inbound.as_ref(), "the inbound SA")?;
        let address = |address: &Option<Address>, field| required(address.as_ref(), field)?.read(field);
        let local = local.map_or_else(|| address(&self.local, "our address"), Ok)?;
        Ok(Restored {
            spi: inbound.spi(),
            own: self.own,
            follows: self.follows,
            inbound,
            outbound: required(self.outbound.as_ref(), "the outbound SA")?,
            selectors: inbound.selectors()?,
            ends: Ends {
                local: local.ip(),
                remote: address(&self.remote, "the peer's address")?,
                encapsulation: if self.raw { Encapsulation::Raw } else { Encapsulation::Udp },
                mode: if self.transport { Mode::Transport } else { Mode::Tunnel },
            },
            options: required(self.options.as_ref(), "the options")?.read()?,
        })
    }
}

/// A snapshot that was read.
pub(crate) struct Restored<'a> {
    pub(crate) spi: Spi,
    pub(crate) own: bool,
    pub(crate) follows: bool,
    pub(crate) inbound: &'a InboundSnapshot,
    pub(crate) outbound: &'a OutboundSnapshot,
    pub(crate) selectors: SelectorPair,
    pub(crate) ends: Ends,
    pub(crate) options: TunnelOptions,
}

/// [`TunnelOptions`]. What is not there is the default.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct OptionsForm {
    #[prost(uint32, optional, tag = "1")]
    outer_mtu: Option<u32>,
    /// 0 copied, 1 set, 2 clear.
    #[prost(uint32, tag = "2")]
    df: u32,
    /// The value, if it is always the same.
    #[prost(uint32, optional, tag = "3")]
    dscp: Option<u32>,
    #[prost(bool, tag = "4")]
    dscp_inward: bool,
    #[prost(bool, tag = "5")]
    not_ect: bool,
    /// The most, if it is not what fits; `MSS_OFF` leaves it alone.
    #[prost(uint32, optional, tag = "6")]
    mss: Option<u32>,
    /// Padded to a multiple of so many octets.
    #[prost(uint32, optional, tag = "7")]
    tfc_multiple: Option<u32>,
    /// Padded to so many octets.
    #[prost(uint32, optional, tag = "8")]
    tfc_fixed: Option<u32>,
}

impl OptionsForm {
    fn new(options: &TunnelOptions) -> Self {
        let TunnelOptions { outer_mtu, df, dscp, dscp_inward, ecn, mss, tfc } = *options;
        let (tfc_multiple, tfc_fixed) = match tfc {
            TfcPadding::Off => (None, None),
            TfcPadding::Multiple(unit) => (Some(unit.into()), None),
            TfcPadding::Fixed(len) => (None, Some(len.into())),
        };
        Self {
            outer_mtu: outer_mtu.map(u32::from),
            df: match df {
                OuterDf::Copy => 0,
                OuterDf::Set => 1,
                OuterDf::Clear => 2,
            },
            dscp: match dscp {
                OuterDscp::Copy => None,
                OuterDscp::Fixed(dscp) => Some(dscp.into()),
            },
            dscp_inward,
            not_ect: ecn == OuterEcn::NotEct,
            mss: match mss {
                MssClamp::Auto => None,
                MssClamp::Off => Some(MSS_OFF),
                MssClamp::At(octets) => Some(octets.into()),
            },
            tfc_multiple,
            tfc_fixed,
        }
    }

    fn read(&self) -> Result<TunnelOptions, SnapshotError> {
        let short = |field, number| u16::try_from(number).map_err(|error| SnapshotError::value(field, error));
        Ok(TunnelOptions {
            outer_mtu: self.outer_mtu.map(|mtu| short("the MTU of the path", mtu)).transpose()?,
            df: match self.df {
                0 => OuterDf::Copy,
                1 => OuterDf::Set,
                2 => OuterDf::Clear,
                other => return Err(SnapshotError::value("DF", format!("there is no choice {other}"))),
            },
            dscp: match self.dscp {
                None => OuterDscp::Copy,
                Some(dscp) => OuterDscp::Fixed(
                    u8::try_from(dscp).map_err(|error| SnapshotError::value("the DSCP", error))?,
                ),
            },
            dscp_inward: self.dscp_inward,
            ecn: if self.not_ect { OuterEcn::NotEct } else { OuterEcn::Copy },
            mss: match self.mss {
                None => MssClamp::Auto,
                Some(MSS_OFF) => MssClamp::Off,
                Some(octets) => MssClamp::At(short("the MSS", octets)?),
            },
            tfc: match (self.tfc_multiple, self.tfc_fixed) {
                (Some(unit), _) => TfcPadding::Multiple(short("the padding", unit)?),
                (None, Some(len)) => TfcPadding::Fixed(short("the padding", len)?),
                (None, None) => TfcPadding::Off,
            },
        })
    }
}

/// No MSS has as many octets.
const MSS_OFF: u32 = u32::MAX;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_option_comes_back() {
        let default = TunnelOptions::default();
        let odd = TunnelOptions {
            outer_mtu: Some(1400),
            df: OuterDf::Clear,
            dscp: OuterDscp::Fixed(46),
            dscp_inward: true,
            ecn: OuterEcn::NotEct,
            mss: MssClamp::At(1200),
            tfc: TfcPadding::Multiple(64),
        };
        let full = TunnelOptions { df: OuterDf::Set, mss: MssClamp::Off, tfc: TfcPadding::Fixed(0), ..odd };
        for options in [default, odd, full] {
            let octets = OptionsForm::new(&options).encode_to_vec();
            assert_eq!(OptionsForm::decode(octets.as_slice()).unwrap().read().unwrap(), options);
        }
        assert_eq!(OptionsForm::new(&default).encoded_len(), 0);
        let beyond = OptionsForm { mss: Some(1 << 16), ..OptionsForm::default() };
        assert!(beyond.read().unwrap_err().to_string().contains("the MSS"));
        assert!(OptionsForm { df: 3, ..OptionsForm::default() }.read().is_err());
    }

    /// Whoever changes the form has to change its version as well, and then this.
    #[test]
    fn the_form_is_what_it_was() {
        let options = TunnelOptions { outer_mtu: Some(1400), dscp_inward: true, ..TunnelOptions::default() };
        let pair = PairSnapshot::new(Parts {
            tenant: TenantId(7),
            tunnel: TunnelId(300),
            own: true,
            follows: true,
            transport: true,
            inbound: InboundSnapshot::default(),
            outbound: OutboundSnapshot::default(),
            options: &options,
            local: [192, 0, 2, 1].into(),
            remote: "192.0.2.2:4500".parse().unwrap(),
            encapsulation: Encapsulation::Raw,
            active: true,
        });
        let hex: String = pair.encode_to_vec().iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(hex, FORM);
        assert_eq!(format!("{pair:?}"), "PairSnapshot(0x00000000, tenant 7, tunnel 300)");
    }

    const FORM: &str =
        "080710ac02180120012a0032003a0508f80a200142060a04c00002014a090a04c0000202109423500158016001";

    proptest::proptest! {
        #[test]
        fn whatever_is_decodable_is_read_or_refused(octets in proptest::collection::vec(0u8.., 0..80)) {
            if let Ok(pair) = PairSnapshot::decode(octets.as_slice()) {
                let _ = pair.read(None);
            }
            let window = WindowSnapshot { spi: 0, octets };
            let _ = PairSnapshot::default().set_window(&window);
        }
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        let mut nothing = PairSnapshot::default();
        assert!(nothing.read(None).is_err());
        let window = WindowSnapshot { spi: 7, octets: Vec::new() };
        let error = nothing.set_window(&window).unwrap_err().to_string();
        assert!(error.ends_with("it is of 0x00000007, the pair is 0x00000000"), "{error}");
    }
}
