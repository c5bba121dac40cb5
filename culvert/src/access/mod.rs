//! Who may call the API: doors, credentials, roles, limits, and the note in the audit log.
//!
//! A connection comes in by a door (`doors.rs`: TCP with or without TLS, or the Unix socket) and says there who holds it. Every
//! request passes one layer (`layer.rs`), which asks who calls (`authenticate.rs`), whether the method is for that caller
//! (`methods.rs`, from what the protos say), how much it is (`request.rs`, `weight.rs`, `budget.rs`, `ledger.rs`, `lanes.rs`),
//! and whether what it names is the caller's tenant's (`names.rs`). An order is noted
//! even if nobody waits for its answer (`order.rs`), and an answer that its client does not take is held to a bound (`answers.rs`).
//! Who reads does so abreast of what other nodes have written (`abreast.rs`). The services know of all that only the [`Caller`]. What an answer streams ends when its caller's credential does (`guard.rs`), and there are so many for each
//! (`streams.rs`).

mod abreast;
mod answers;
mod authenticate;
mod budget;
mod caller;
mod connection;
mod counters;
mod doors;
mod files;
mod guard;
mod lanes;
mod layer;
mod ledger;
mod limits;
mod methods;
mod names;
mod order;
mod request;
mod streams;
mod tls;
mod weight;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenants::audit::Deed;
use tenants::{Author, Catalog, Role};
use tokio::sync::Semaphore;

pub(crate) use abreast::Abreast;
pub use caller::{Caller, author, current};
pub(crate) use caller::{apart, serving, share};
pub use counters::Counters;
pub use doors::{DoorError, Doors, Incoming};
pub(crate) use files::{Look, Watched};
pub(crate) use lanes::Lanes;
pub use layer::AccessLayer;
pub(crate) use ledger::{Entry, Ledger};
pub use methods::{Rule, rules};
pub(crate) use request::{MAX_BATCH_REQUEST, MAX_REQUEST};
pub use tls::{Tls, TlsError};

use crate::config::{ClientRule, GrpcConfig, UserRule};
use crate::room::{Entered, Place, Room};
use crate::telemetry::metrics::Others;
use answers::Answers;
use budget::Budget;
use files::TokenFiles;
use limits::Limits;
use streams::Streams;

/// So many that have shown a token that is not known here are looked for at other nodes at a time. A look takes milliseconds mostly and
/// seconds where etcd is slow; new tokens are few.
const MAX_LOOKS: usize = 4;

/// What decides who may do what.
pub struct Access {
    catalog: Arc<Catalog>,
    anonymous: Option<Role>,
    users: Vec<UserRule>,
    clients: Vec<ClientRule>,
    tokens: Arc<TokenFiles>,
    limits: Limits,
    counters: Arc<Counters>,
    room: Room,
    /// What requests hold.
    budget: Arc<Budget>,
    /// Answers that are not taken yet.
    answers: Answers,
    /// Answers that stream.
    streams: Arc<Streams>,
    /// What is read is no older than what others were told.
    abreast: Abreast,
    /// Of those who have shown a token that is not known here.
    looks: Semaphore,
    /// Entries that the audit log was spared since the last one.
    suppressed: AtomicU64,
}

impl Access {
    /// As configured.
    ///
    /// # Errors
    /// If the file of a token cannot be used.
    pub fn new(catalog: Arc<Catalog>, config: &GrpcConfig) -> Result<Self, DoorError> {
        Ok(Self::with(catalog, config, TokenFiles::read(&config.tokens)?))
    }

    /// What is wrong with the files of tokens and of TLS; nothing if they can be used.
    pub(crate) fn check_files(config: &GrpcConfig) -> Vec<String> {
        let tls = config.tls.as_ref().and_then(|tls| Tls::open(tls).err()).map(|error| error.to_string());
        let tokens = TokenFiles::read(&config.tokens).err().map(|error| error.to_string());
        tls.into_iter().chain(tokens).collect()
    }

    /// For a node that only this process and this host reach, as the quickstart's.
    pub fn open(catalog: Arc<Catalog>) -> Self {
        Self::with(catalog, &GrpcConfig::default(), TokenFiles::default())
    }

    fn with(catalog: Arc<Catalog>, config: &GrpcConfig, tokens: TokenFiles) -> Self {
        Self {
            abreast: Abreast::of(Arc::clone(&catalog)),
            catalog,
            anonymous: config.anonymous(),
            users: config.users.clone(),
            clients: config.clients.clone(),
            tokens: Arc::new(tokens),
            limits: Limits::new(config.rate_limit),
            counters: Arc::new(Counters::default()),
            room: Room::default(),
            budget: Arc::default(),
            answers: Answers::default(),
            streams: Arc::default(),
            looks: Semaphore::new(MAX_LOOKS),
            suppressed: AtomicU64::new(0),
        }
    }

    /// A place for a connection, if there is one.
    fn place(&self, source: Option<IpAddr>) -> Option<Place> {
        self.entered(self.room.enter(source))
    }

    /// What came of it, counted.
    fn entered(&self, entered: Option<Entered>) -> Option<Place> {
        match entered {
            None => {
                self.counters.connection_limited();
                None
            }
            Some(Entered { place, displaced }) => {
                if displaced {
                    self.counters.connection_displaced();
                }
                Some(place)
            }
        }
    }

    fn suppress(&self) {
        self.suppressed.fetch_add(1, Ordering::Relaxed);
    }

    fn take_suppressed(&self) -> u64 {
        self.suppressed.swap(0, Ordering::Relaxed)
    }

    /// Notes how many entries the audit log was spared, if nothing was noted since that would say so.
    pub(crate) fn note_suppressed(&self) {
        let suppressed = self.take_suppressed();
        if suppressed > 0 {
            let author = Author { method: String::new(), ..(*Author::node()).clone() };
            let message = "refusals that were not written one by one".to_owned();
            let result = "UNAUTHENTICATED";
            self.catalog.audit().note(Deed { author, result, message, names: Vec::new(), suppressed }, false);
        }
    }

    /// Has metrics ask for what is counted here, and whether the files can be used that were read at the start.
    pub fn tell(&self, others: &Others) {
        let (counters, catalog) = (self.counters(), Arc::clone(&self.catalog));
        others.counters(move || counters.all(catalog.audit()));
        let tokens = Arc::clone(&self.tokens);
        others.files("tokens", move || tokens.are_usable());
    }

    /// What was counted.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Reads files of tokens again that have changed.
    pub fn refresh(&self) {
        if !self.tokens.refresh() {
            self.counters.reload_failed();
        }
    }
}
