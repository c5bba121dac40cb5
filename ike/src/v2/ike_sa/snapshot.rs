//! An IKE_SA as another node takes it over.

use prost::{Message, Oneof};
use snapshot::{Due, Secret, SnapshotError, Writer, required};
use zeroize::Zeroizing;

use super::{IkeSa, SaState};
use crate::crypto::keys::IkeKeys;
use crate::crypto::prf::Prf;
use crate::crypto::sk::{SkKey, SkSuite};
use crate::snapshot::values::{choice, choice_form};
use crate::snapshot::{Reading, RestoreError, Writing};
use crate::v2::exchange::{Exchanges, ExchangesForm};
use crate::v2::sync::{CounterSync, CounterSyncForm};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IkeSaForm {
    #[prost(fixed64, tag = "1")]
    spi_local: u64,
    #[prost(fixed64, tag = "2")]
    spi_remote: u64,
    #[prost(bool, tag = "3")]
    initiator: bool,
    #[prost(uint64, repeated, tag = "4")]
    choice: Vec<u64>,
    /// SK_d.
    #[prost(message, optional, tag = "5")]
    d: Option<Secret>,
    /// SK_pi and SK_pr.
    #[prost(message, repeated, tag = "6")]
    p: Vec<Secret>,
    #[prost(message, optional, tag = "7")]
    key_in: Option<SkKeyForm>,
    #[prost(message, optional, tag = "8")]
    key_out: Option<SkKeyForm>,
    #[prost(message, optional, tag = "9")]
    exchanges: Option<ExchangesForm>,
    #[prost(oneof = "StateForm", tags = "10, 11, 12, 13")]
    state: Option<StateForm>,
    #[prost(bool, tag = "14")]
    fragments: bool,
    #[prost(bool, tag = "15")]
    states_window: bool,
    #[prost(bool, tag = "16")]
    peer_states_window: bool,
    /// Nothing from a node that knows nothing of it, or where nothing is agreed.
    #[prost(message, optional, tag = "17")]
    sync: Option<CounterSyncForm>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum StateForm {
    #[prost(bool, tag = "10")]
    Active(bool),
    #[prost(message, tag = "11")]
    Replaced(Due),
    #[prost(bool, tag = "12")]
    Deleting(bool),
    #[prost(message, tag = "13")]
    Dead(Due),
}

/// One direction.
#[derive(Clone, PartialEq, Eq, Message)]
struct SkKeyForm {
    #[prost(message, optional, tag = "1")]
    encryption: Option<Secret>,
    /// Empty for an AEAD.
    #[prost(message, optional, tag = "2")]
    integrity: Option<Secret>,
    #[prost(uint64, tag = "3")]
    next_iv: u64,
}

impl IkeSa {
    /// Writes an [`IkeSaForm`].
    pub(crate) fn write<'a>(&'a self, w: &mut Writing<'a>) {
        let Self {
            spi_local,
            spi_remote,
            initiator,
            choice,
            prf: _,
            keys,
            key_in,
            key_out,
            exchanges,
            state,
            fragments,
            states_window,
            peer_states_window,
            sync,
            // The peer sends all of a message again.
            reassembly: _,
        } = self;
        // The keys of the four directions went into `key_in` and `key_out`.
        let IkeKeys { d, ai: _, ar: _, ei: _, er: _, pi, pr } = keys;
        w.fixed64(1, *spi_local);
        w.fixed64(2, *spi_remote);
        w.flag(3, *initiator);
        w.uints(4, choice_form(choice));
        w.secret(5, d);
        w.secret(6, pi);
        w.secret(6, pr);
        w.message(7, |w| SkKeyForm::write(w, key_in));
        w.message(8, |w| SkKeyForm::write(w, key_out));
        w.message(9, |w| exchanges.write(w));
        match *state {
            SaState::Active => w.flag(10, true),
            SaState::Replaced(until) => w.at(11, until),
            SaState::Deleting => w.flag(12, true),
            SaState::Dead(until) => w.at(13, until),
        }
        w.flag(14, *fragments);
        w.flag(15, *states_window);
        w.flag(16, *peer_states_window);
        sync.form(w).iter().for_each(|sync| w.form(17, sync));
    }

    pub(crate) fn restore(form: &IkeSaForm, r: &Reading) -> Result<Self, RestoreError> {
        let choice = choice(&form.choice)?;
        let (prf, suite) = (Prf::from_transform(choice.prf.id)?, SkSuite::new(&choice)?);
        let of_prf = |key: Option<&Secret>, field| {
            let key = required(key, field)?.octets();
            let fits = key.len() == prf.key_len();
            let octets = || format!("{} octets, {} are needed", key.len(), prf.key_len());
            fits.then(|| Zeroizing::new(key.to_vec())).ok_or_else(|| SnapshotError::value(field, octets()))
        };
        let [pi, pr] = [0, 1].map(|at| of_prf(form.p.get(at), "SK_p"));
        let none = Zeroizing::default;
        let d = of_prf(form.d.as_ref(), "SK_d")?;
        let keys = IkeKeys { d, ai: none(), ar: none(), ei: none(), er: none(), pi: pi?, pr: pr? };
        let key = |key: &Option<SkKeyForm>, jump| {
            required(key.as_ref(), "the keys of a direction")?.read(suite, jump)
        };
        let state = match *required(form.state.as_ref(), "the state of an IKE_SA")? {
            StateForm::Active(_) => SaState::Active,
            StateForm::Replaced(until) => SaState::Replaced(r.when(until)),
            StateForm::Deleting(_) => SaState::Deleting,
            StateForm::Dead(until) => SaState::Dead(r.when(until)),
        };
        Ok(Self {
            spi_local: form.spi_local,
            spi_remote: form.spi_remote,
            initiator: form.initiator,
            choice,
            prf,
            keys,
            key_in: key(&form.key_in, 0)?,
            key_out: key(&form.key_out, r.resume().jump())?,
            exchanges: Exchanges::restore(required(form.exchanges.as_ref(), "the exchanges")?, r)?,
            state,
            fragments: form.fragments,
            states_window: form.states_window,
            peer_states_window: form.peer_states_window,
            sync: CounterSync::restore(form.sync.as_ref(), r)?,
            reassembly: None,
        })
    }
}

impl SkKeyForm {
    fn write(w: &mut Writer, key: &SkKey) {
        let (encryption, integrity) = key.secrets();
        if !encryption.is_empty() {
            w.secret(1, &encryption);
        }
        if !integrity.is_empty() {
            w.secret(2, &integrity);
        }
        w.uint(3, key.next_iv());
    }

    fn read(&self, suite: SkSuite, jump: u64) -> Result<SkKey, RestoreError> {
        let key = |key: &Option<Secret>, len: usize, field| {
            let key = key.as_ref().map(Secret::octets).unwrap_or_default();
            let octets = || format!("{} octets, {len} are needed", key.len());
            let fits = (key.len() == len).then(|| Zeroizing::new(key.to_vec()));
            fits.ok_or_else(|| SnapshotError::value(field, octets()))
        };
        let encryption = key(&self.encryption, suite.encryption_key_len(), "SK_e")?;
        let integrity = key(&self.integrity, suite.integrity_key_len(), "SK_a")?;
        let next_iv = self.next_iv.checked_add(jump);
        let next_iv = required(next_iv, "another IV: they are used up")?;
        Ok(SkKey::new(suite, encryption, integrity).resumed_at(next_iv))
    }
}
