//! The hostile peer: it has the keys of one side and seals whatever it likes.

use ike::Command;
use ike::wire::header::Header;
use ike::wire::message::{Message, Payloads};
use ike::wire::numbers::{ExchangeType, NotifyType, PayloadType, ProtocolId};
use ike::wire::payload::{self, Notify, Payload};
use ike::wire::sa::Proposal;
use ike::wire::writer::Writer;
use ike::{EspProposal, Identity, IkeProposal, Transmit};

use crate::kit::tap::{Tap, Wrapping};
use crate::kit::{A, B, Installed, Pair, Spec, Who, ts};

/// Two sides, one of which the test can speak for.
pub struct Hostile {
    pub pair: Pair,
    pub tap: Tap,
}

/// What must be as it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    up: bool,
    spis: (u64, u64),
    ike_sas: usize,
    installed: Vec<(u32, Installed)>,
    log: Vec<String>,
    waiting: usize,
}

pub fn other(who: Who) -> Who {
    if who == A { B } else { A }
}

impl Hostile {
    pub fn new(left: &Spec, right: &Spec) -> Self {
        Self { pair: Pair::new(left, right), tap: Tap::default() }
    }

    /// Established, with one Child SA.
    pub fn up() -> Self {
        Self::up_with(&Spec::left(), &Spec::right())
    }

    pub fn up_with(left: &Spec, right: &Spec) -> Self {
        let this = Self::up_many(left, right);
        this.pair.assert_children(1);
        this
    }

    /// Established, with as many Child SAs as there are policies.
    pub fn up_many(left: &Spec, right: &Spec) -> Self {
        let mut this = Self::new(left, right);
        this.pair.initiate();
        this.settle();
        this
    }

    /// B has answered IKE_SA_INIT. What A would send next is dropped: the test speaks for A.
    pub fn half_open() -> Self {
        let mut this = Self::new(&Spec::left(), &Spec::right());
        this.pair.initiate();
        this.deliver(A);
        this.deliver(B);
        this
    }

    /// Lets the tap see what waits to be sent.
    pub fn look(&mut self) {
        let Pair { a, b, .. } = &self.pair;
        for transmit in a.outbox.iter().chain(&b.outbox) {
            self.tap.saw(&transmit.bytes, [&a.host.draws, &b.host.draws]);
        }
    }

    pub fn deliver(&mut self, from: Who) {
        self.look();
        self.pair.deliver(from);
        self.look();
    }

    pub fn settle(&mut self) {
        for _ in 0..500 {
            match (self.pair.a.outbox.is_empty(), self.pair.b.outbox.is_empty()) {
                (false, _) => self.deliver(A),
                (_, false) => self.deliver(B),
                _ => return,
            }
        }
        panic!("the two never fall silent");
    }

    pub fn command(&mut self, who: Who, command: Command) {
        self.pair.command(who, command);
        self.look();
    }

    pub fn snapshot(&mut self, who: Who) -> Snapshot {
        let side = self.pair.side(who);
        let conn = side.conn.as_ref().expect("a connection");
        Snapshot {
            up: conn.is_up(),
            spis: conn.spis(),
            ike_sas: conn.ike_sas(),
            installed: side.installed.iter().map(|(spi, sa)| (*spi, sa.clone())).collect(),
            log: side.log.clone(),
            waiting: side.outbox.len(),
        }
    }

    pub fn dropped(&mut self, who: Who) -> u64 {
        self.pair.side(who).conn.as_ref().map_or(0, |c| c.counters().dropped)
    }

    /// Gives octets to the other side of `from`.
    pub fn inject(&mut self, from: Who, bytes: &[u8]) {
        let (local, remote) = (self.pair.side(from).addr, self.pair.side(other(from)).addr);
        let message = Transmit { local, remote, natt: true, keepalive: false, bytes: bytes.to_vec() };
        self.pair.put(from, &message);
        self.look();
    }

    /// What is injected must be counted and change nothing.
    #[track_caller]
    pub fn assert_dropped(&mut self, from: Who, bytes: &[u8], what: &str) {
        let (before, count) = (self.snapshot(other(from)), self.dropped(other(from)));
        self.inject(from, bytes);
        assert_eq!(self.snapshot(other(from)), before, "{what}");
        assert_eq!(self.dropped(other(from)), count + 1, "{what} is counted");
    }

    /// Whether `who` is the initiator of the newest IKE_SA.
    pub fn is_initiator(&mut self, who: Who) -> bool {
        let spi = self.pair.side(who).conn.as_ref().unwrap().local_spis();
        spi.contains(&self.tap.last().spi_i)
    }

    /// The header of the next request of a side.
    pub fn request_header(&mut self, from: Who, exchange: ExchangeType) -> Header {
        let initiator = self.is_initiator(from);
        let sa = self.tap.last();
        sa.header(initiator, false, exchange, sa.next_id[usize::from(initiator)])
    }

    /// Sends a request, well sealed, with these octets inside; returns what the other side answers.
    #[track_caller]
    pub fn ask_octets(
        &mut self,
        from: Who,
        exchange: ExchangeType,
        first: PayloadType,
        plain: &[u8],
    ) -> Option<Vec<Payload>> {
        let header = self.request_header(from, exchange);
        let sa = self.tap.last();
        let at = (sa.spi_i, sa.spi_r);
        let bytes = sa.seal_octets(header, first, plain, &Wrapping::default());
        self.inject(from, &bytes);
        let answer = self.pair.side(other(from)).outbox.pop_front()?;
        let sa = self.tap.sas.iter_mut().find(|sa| (sa.spi_i, sa.spi_r) == at).unwrap();
        let seen = Message::parse(&answer.bytes).unwrap().header;
        assert!(seen.response && seen.message_id == header.message_id, "it answers the request");
        sa.next_id[usize::from(header.from_initiator)] += 1;
        let opened = sa.open(&answer.bytes).expect("an answer that opens");
        if errors(&opened).contains(&NotifyType::INVALID_SYNTAX) {
            self.say_that_it_is_there(from);
        }
        Some(opened)
    }

    /// Answers the other side, if it asks whether `from` has the IKE_SA still.
    pub fn say_that_it_is_there(&mut self, from: Who) {
        let asking = other(from);
        let Some(question) = self.pair.side(asking).outbox.front().cloned() else { return };
        assert_eq!(self.asked(asking), Some(vec![]));
        // The true peer sees it as well, so that it knows the next one.
        self.pair.put(asking, &question);
        self.pair.side(from).outbox.clear();
        self.answer(asking, &[]);
    }

    /// [`Self::ask_octets`] with well-formed payloads.
    #[track_caller]
    pub fn ask(&mut self, from: Who, exchange: ExchangeType, payloads: &[Payload]) -> Option<Vec<Payload>> {
        let (first, plain) = chain(payloads);
        self.ask_octets(from, exchange, first, &plain)
    }

    /// Asks, and demands that the answer is nothing but this error and that nothing has changed.
    #[track_caller]
    pub fn assert_refused(
        &mut self,
        from: Who,
        exchange: ExchangeType,
        (first, plain): (PayloadType, Vec<u8>),
        error: NotifyType,
    ) -> Notify {
        let before = self.snapshot(other(from));
        let answer = self.ask_octets(from, exchange, first, &plain).expect("an answer");
        let [Payload::Notify(notify)] = answer.as_slice() else { panic!("answered with {answer:?}") };
        assert_eq!(notify.kind, error);
        let mut after = self.snapshot(other(from));
        // A refusal may be reported to the host.
        after.log.retain(|line| !line.starts_with("child failed"));
        let log = before.log.iter().filter(|line| !line.starts_with("child failed")).cloned().collect();
        assert_eq!(after, Snapshot { log, ..before });
        notify.clone()
    }

    /// Answers the request that `who` has waiting to be sent, in the place of the other side.
    pub fn answer(&mut self, who: Who, payloads: &[Payload]) {
        let (first, plain) = chain(payloads);
        self.answer_octets(who, first, &plain);
    }

    pub fn answer_octets(&mut self, who: Who, first: PayloadType, plain: &[u8]) {
        let request = self.take_request(who);
        let header = Message::parse(&request.bytes).unwrap().header;
        let sa = self.tap.sas.iter_mut().find(|sa| sa.spi_i == header.spi_i).expect("a known IKE_SA");
        let header = sa.header(!header.from_initiator, true, header.exchange, header.message_id);
        let bytes = sa.seal_octets(header, first, plain, &Wrapping::default());
        self.inject(other(who), &bytes);
    }

    pub fn take_request(&mut self, who: Who) -> Transmit {
        self.look();
        self.pair.take(who)
    }

    /// What `who` asks next, opened.
    pub fn asked(&mut self, who: Who) -> Option<Vec<Payload>> {
        self.look();
        let bytes = self.pair.side(who).outbox.front()?.bytes.clone();
        self.tap.sas.iter().rev().find_map(|sa| sa.open(&bytes))
    }

    /// Both sides still work with each other.
    pub fn assert_alive(&mut self) {
        // The true peer has not sent what was sent in its name, so a side that was spoken for is behind.
        for who in [A, B] {
            let before = self.snapshot(who);
            assert!(before.up && before.ike_sas == 1, "{before:?}");
        }
        for from in [A, B] {
            let answer = self.ask(from, ExchangeType::INFORMATIONAL, &[]).expect("an answer");
            assert!(answer.is_empty(), "{answer:?}");
        }
    }
}

/// Writes payloads.
pub fn chain(payloads: &[Payload]) -> (PayloadType, Vec<u8>) {
    let mut w = Writer::new();
    let first = payload::write_chain(&mut w, payloads);
    (first, w.finish())
}

/// Writes payloads of any type and content: type, critical, body.
pub fn raw(items: &[(u8, bool, &[u8])]) -> (PayloadType, Vec<u8>) {
    let mut out = Vec::new();
    for (i, (_, critical, body)) in items.iter().enumerate() {
        out.push(items.get(i + 1).map_or(0, |next| next.0));
        out.push(if *critical { 0x80 } else { 0 });
        out.extend((body.len() as u16 + 4).to_be_bytes());
        out.extend_from_slice(body);
    }
    (PayloadType(items.first().map_or(0, |i| i.0)), out)
}

/// IDi, a name.
pub fn id_i(name: &str) -> Payload {
    Payload::IdI(name.parse::<Identity>().unwrap().into())
}

/// IDr, a name.
pub fn id_r(name: &str) -> Payload {
    Payload::IdR(name.parse::<Identity>().unwrap().into())
}

pub fn notify(kind: NotifyType) -> Payload {
    Payload::Notify(Notify::new(kind))
}

pub fn errors(payloads: &[Payload]) -> Vec<NotifyType> {
    Payloads(payloads).notifies().filter(|n| n.kind.is_error()).map(|n| n.kind).collect()
}

pub fn esp_offer(text: &str, spi: u32) -> Payload {
    let transforms = text.parse::<EspProposal>().unwrap().transforms().to_vec();
    Payload::Sa(vec![Proposal {
        number: 1,
        protocol: ProtocolId::ESP,
        spi: spi.to_be_bytes().to_vec(),
        transforms,
    }])
}

/// An answer to an ESP offer: one transform of each type.
pub fn esp_answer(text: &str, spi: u32) -> Payload {
    let Payload::Sa(mut sa) = esp_offer(text, spi) else { unreachable!() };
    let mut seen = Vec::new();
    sa[0].transforms.retain(|t| {
        let new = !seen.contains(&t.kind);
        seen.push(t.kind);
        new
    });
    Payload::Sa(sa)
}

pub fn ike_offer(text: &str, spi: &[u8]) -> Payload {
    let transforms = text.parse::<IkeProposal>().unwrap().transforms().to_vec();
    Payload::Sa(vec![Proposal { number: 1, protocol: ProtocolId::IKE, spi: spi.to_vec(), transforms }])
}

/// The selectors of a request of this side for the policy of the kit.
pub fn selectors(from: Who) -> [Payload; 2] {
    let (left, right) = (vec![ts("10.1.0.0", "10.1.255.255")], vec![ts("10.2.0.0", "10.2.255.255")]);
    let (i, r) = if from == A { (left, right) } else { (right, left) };
    [Payload::TsI(i), Payload::TsR(r)]
}

/// A request for a Child SA that would be served.
pub fn child_request(from: Who, spi: u32) -> Vec<Payload> {
    let [i, r] = selectors(from);
    vec![esp_offer("aes128gcm16", spi), Payload::Nonce(vec![7; 32]), i, r]
}
