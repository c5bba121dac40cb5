//! A shard with tenants and tunnels, and the peers that send to it.

use anyhow::Context;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use esp::{Encryption, Limits, Mode, Selector, SelectorPair, Spi, Suite};
use indicatif::ProgressBar;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use router::bench::MemoryShard;
use router::{ChildSa, Encapsulation, HugePages, Reserve, TenantId, TunnelId, TunnelOptions};

use crate::subjects::{BareAead, Cipher, esp_packet, inner_packet, keys_of};

/// A shard and its peers. The two SAs of a pair have the same key, no two pairs have.
pub(crate) struct World {
    pub(crate) shard: MemoryShard,
    spis: Vec<Spi>,
    /// Tenants there are.
    tenants: u32,
    /// Sequence numbers of the peers.
    sequences: Vec<u32>,
    /// The tenant that has a tunnel more for what comes out of its only one.
    further: Option<u32>,
    peer: BareAead,
    /// As [`measure`](super::measure) opens what all have sealed with one key.
    one_key: BareAead,
    random: ChaCha20Rng,
    suite: Suite,
}

/// Where a packet is to go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Where no tunnel leads.
    Nowhere,
    /// Behind any other tunnel of the tenant: what came out of one does not go back into it.
    Tunnel,
}

impl World {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            shard: MemoryShard::new(HugePages::withheld().ok())?,
            spis: Vec::new(),
            tenants: 0,
            sequences: Vec::new(),
            further: None,
            peer: BareAead::new(CIPHER, true),
            one_key: BareAead::new(CIPHER, true),
            random: ChaCha20Rng::seed_from_u64(7),
            suite: Suite::new(Encryption::AesGcm16_128, None, false)?,
        })
    }

    /// Pairs there are.
    pub(crate) fn pairs(&self) -> u32 {
        self.spis.len() as u32
    }

    /// Installs so many more pairs, each of a tunnel of its own with one address behind it.
    pub(crate) fn install(&mut self, pairs: u32, progress: &ProgressBar) -> anyhow::Result<()> {
        for _ in 0..pairs {
            let number = self.pairs();
            let tenant = TenantId(number / TUNNELS_PER_TENANT);
            // Tenants stay where their pairs go.
            if tenant.0 >= self.tenants {
                self.shard.add_tenant(tenant)?;
                self.tenants = tenant.0 + 1;
            }
            let spi = self.install_one(tenant, number)?;
            self.spis.push(spi);
            self.sequences.push(0);
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// Sees to it that every packet has a tunnel to go on by: one more, which no packet comes from, for the tenant that has a single one.
    pub(crate) fn lead_on(&mut self) -> anyhow::Result<()> {
        let (tenant, alone) = (self.pairs() / TUNNELS_PER_TENANT, self.pairs() % TUNNELS_PER_TENANT == 1);
        if alone && self.further.replace(tenant) != Some(tenant) {
            self.install_one(TenantId(tenant), further(tenant))?;
        }
        Ok(())
    }

    fn install_one(&mut self, tenant: TenantId, number: u32) -> anyhow::Result<Spi> {
        let spi = self.shard.allocate_spi().context("no SPI is left")?;
        let local = self.shard.local();
        let any = Selector::subnet(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let behind = Selector::subnet(IpAddr::V4(address(number)), 32);
        self.shard.install(&ChildSa {
            tenant,
            tunnel: TunnelId(number.into()),
            inbound_spi: spi,
            own: false,
            follows: false,
            outbound_spi: 0x0100_0000 + number,
            suite: self.suite,
            inbound_keys: keys_of(&self.suite, number),
            outbound_keys: keys_of(&self.suite, number),
            iv_seed: [3; 32],
            mode: Mode::Tunnel,
            selectors: SelectorPair { local: vec![any], remote: vec![behind] },
            // The least that there is: what a window holds is touched where packets come, not all of it.
            replay_window: 64,
            limits: Limits::default(),
            local,
            remote: Self::remote(),
            encapsulation: Encapsulation::Udp,
            options: TunnelOptions { outer_mtu: Some(1500), ..TunnelOptions::default() },
            reserve: Reserve::default(),
        })?;
        Ok(spi)
    }

    /// Removes the newest so many pairs.
    pub(crate) fn remove(&mut self, pairs: u32, progress: &ProgressBar) {
        for spi in self.spis.drain(self.spis.len() - pairs as usize..) {
            self.shard.remove(spi);
            progress.inc(1);
        }
        self.sequences.truncate(self.spis.len());
        progress.finish_and_clear();
    }

    /// Sealed packets from any peers; and the same sealed with one key, for the bare AEAD.
    pub(crate) fn packets(
        &mut self,
        count: usize,
        destination: Destination,
        len: usize,
    ) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        (0..count)
            .map(|_| {
                let from = self.random.next_u32() % self.pairs();
                let packet = self.unsealed(from, destination, len);
                let (mut own, mut one) = (packet.clone(), packet);
                self.peer.rekey(CIPHER, from);
                self.peer.seal(&mut own);
                self.one_key.seal(&mut one);
                (own, one)
            })
            .unzip()
    }

    /// A sealed packet of this peer.
    pub(crate) fn packet(&mut self, from: u32, destination: Destination, len: usize) -> Vec<u8> {
        let mut packet = self.unsealed(from, destination, len);
        self.peer.rekey(CIPHER, from);
        self.peer.seal(&mut packet);
        packet
    }

    fn unsealed(&mut self, from: u32, destination: Destination, len: usize) -> Vec<u8> {
        let to = match destination {
            Destination::Nowhere => Ipv4Addr::new(9, 9, 9, 9),
            Destination::Tunnel => {
                let first = from / TUNNELS_PER_TENANT * TUNNELS_PER_TENANT;
                let others = TUNNELS_PER_TENANT.min(self.pairs() - first) - 1;
                match self.random.next_u32().checked_rem(others) {
                    Some(other) if first + other < from => address(first + other),
                    Some(other) => address(first + other + 1),
                    None => address(further(from / TUNNELS_PER_TENANT)),
                }
            }
        };
        let sequence = &mut self.sequences[from as usize];
        *sequence += 1;
        let inner = inner_packet(address(from).to_bits(), to.to_bits(), len);
        esp_packet(self.spis[from as usize].0, *sequence, &inner)
    }

    /// Where packets come from.
    pub(crate) fn remote() -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], 4500))
    }
}

fn address(tunnel: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((16 << 24) + tunnel)
}

/// The number of a tunnel that no packet comes from.
fn further(tenant: u32) -> u32 {
    MAX_PAIRS + tenant
}

const CIPHER: Cipher = Cipher::AesGcm128;
/// As many indexes as an SPI has.
pub(crate) const MAX_PAIRS: u32 = Spi::INDEX_LIMIT;
/// A large tenant's: a million tunnels are those of a thousand such tenants.
const TUNNELS_PER_TENANT: u32 = 1000;
